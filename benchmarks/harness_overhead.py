"""What the harness costs: tokens/s of its timed window against the same loop written by hand.

    python benchmarks/harness_overhead.py [--rounds 15]

Both run the same built and packed program in the same process and take turns. Prediction: the
window adds one Python call, one no-op barrier and one list store a token, about a microsecond of
some 25 ms, so the ratio is 1.00; the promise is 0.99 or better.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from tpubench.results import fingerprint
from tpubench.suite import registry, timing
from tpubench.suite.prepared import clockwork, pass_window
from tpubench.suite.workload import Device, Weights
from tpubench.workloads.llama.step import LlamaStep

BATCH, PROMPT, OUTPUT = 1, 32, 33


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(fingerprint.usable_cores())
    workload, backend = registry.workload("llama-infer"), registry.backend("cpu")
    settings = {"batch": BATCH, "input_len": PROMPT, "output_len": OUTPUT}
    (case,) = workload.cases("smollm2-135m", {k: [str(v)] for k, v in settings.items()})
    step = workload.build(workload.prepare(case, Weights()), Device(torch_device="cpu"), Weights())
    assert isinstance(step, LlamaStep)
    backend.compile(step, "packed")
    works, window = clockwork(backend), pass_window(step)

    @torch.no_grad()
    def by_hand() -> float:
        began = time.perf_counter()
        tokens = step.prefill().argmax(dim=-1, keepdim=True)
        for index in range(OUTPUT - 1):
            tokens = step.decode(tokens, index).argmax(dim=-1, keepdim=True)
        return time.perf_counter() - began

    def harness() -> float:
        return timing.throughput(works, window, passes=1).wall_s

    contenders = {"by hand": by_hand, "harness": harness}
    for measure in contenders.values():
        measure()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        # The order alternates: neither always follows the other.
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            seconds[name].append(contenders[name]())
    pairs = zip(seconds["by hand"], seconds["harness"], strict=True)
    ratios = sorted(hand / ours for hand, ours in pairs)
    for name, times in seconds.items():
        rate = BATCH * OUTPUT / statistics.median(times)
        print(f"{name:8} median {rate:7.2f} tok/s, best {BATCH * OUTPUT / min(times):7.2f} tok/s")
    best = min(seconds["by hand"]) / min(seconds["harness"])
    print(
        f"tokens/s of the harness ÷ by hand: median {statistics.median(ratios):.4f},"
        f" quartiles {ratios[len(ratios) // 4]:.4f} … {ratios[-1 - len(ratios) // 4]:.4f},"
        f" best passes {best:.4f} ({rounds} rounds)"
    )


if __name__ == "__main__":
    main()
