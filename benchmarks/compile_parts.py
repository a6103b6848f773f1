"""Compile time of a deep model: whole, its blocks as nested regions, and block by block.

    python benchmarks/compile_parts.py [--layers 32] [--rounds 1] [--json]

One run: a Llama of the asked depth and a reduced width, forward of one decode step, each way of
compiling in a new process with an empty cache, one after the other in an order that turns round
each time; then each again with the cache that the first left. What counts is the ratio to the whole
within a round: seconds belong to the machine and the hour.

Prediction: inductor's work grows with the operators that it sees, so a whole model of 32 layers
takes several times as long as one block, which is compiled once whatever the depth; a nested region
is compiled once but still traced and scheduled 32 times, and lies between.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = ("whole", "nested", "parts")
SHAPE = {
    "d_model": 128, "n_heads": 4, "n_kv_heads": 2, "head_dim": 32, "d_ffn": 256, "vocab": 512,
    "tied": False, "rope_theta": 1e4, "rope_scaling": None,
}  # fmt: skip


def measure(way: str, layers: int) -> dict[str, float]:
    """Seconds of the first call over those of a later one, and how far its output is from eager."""
    import torch

    from tpubench.suite.backends import _dynamo
    from tpubench.workloads.llama.config import LlamaConfig
    from tpubench.workloads.llama.model import KVCache, Llama
    from tpubench.workloads.llama.weights import Drawn, fill

    torch.set_num_threads(1)
    config = LlamaConfig.from_json({**SHAPE, "n_layers": layers})
    model = Llama(config, 32, torch.float32)
    fill(model, Drawn(config, 0))
    cache = KVCache(config, 1, 32, torch.float32)
    tokens, positions = torch.tensor([[7]]), torch.tensor([3])

    def call() -> torch.Tensor:
        logits: torch.Tensor = model(tokens, positions, cache, None)
        return logits.clone()

    with torch.no_grad():
        expected = call()
        if way == "parts":
            _dynamo.compile_parts(model)
        else:
            if way == "nested":
                kind = type(model.blocks[0])
                kind.forward = torch.compiler.nested_compile_region(kind.forward)
            _dynamo.compile_in_place(model)
        began = time.perf_counter()
        error = float((call() - expected).norm() / expected.norm())
        first_s = time.perf_counter() - began
        warm_s = []
        for _ in range(10):
            began = time.perf_counter()
            call()
            warm_s.append(time.perf_counter() - began)
    hits, misses = _dynamo.cache_hits_and_misses()
    step_s = statistics.median(warm_s)
    return {
        "compile_s": first_s - step_s, "step_s": step_s, "error": error,
        "hits": hits, "misses": misses,
    }  # fmt: skip


def in_a_process(way: str, layers: int, cache: str) -> dict[str, float]:
    """:func:`measure` in a new process whose compilers keep their work in ``cache``."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--layers", str(layers)],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        return {}
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.way, asked.layers)))
        return
    rounds = []
    for number in range(asked.rounds):
        order = WAYS if number % 2 == 0 else WAYS[::-1]
        with tempfile.TemporaryDirectory() as folder:
            cold = {way: in_a_process(way, asked.layers, f"{folder}/{way}") for way in order}
            warm = {way: in_a_process(way, asked.layers, f"{folder}/{way}") for way in order}
        rounds.append({"cold": cold, "warm": warm})
    if asked.json:
        print(json.dumps(rounds))
        return
    print(f"{asked.layers} layers, width {SHAPE['d_model']}, {asked.rounds} rounds")
    print(f"{'way':8} {'cold s':>8} {'× whole':>8} {'warm s':>8} {'step ms':>8} {'error':>9}")
    for way in WAYS:
        good = [r for r in rounds if r["cold"][way] and r["warm"][way] and r["cold"]["whole"]]
        if not good:
            print(f"{way:8} this torch cannot compile it so")
            continue
        cold_s = statistics.median(r["cold"][way]["compile_s"] for r in good)
        ratio = statistics.median(
            r["cold"][way]["compile_s"] / r["cold"]["whole"]["compile_s"] for r in good
        )
        warm_s = statistics.median(r["warm"][way]["compile_s"] for r in good)
        step_ms = 1e3 * statistics.median(r["warm"][way]["step_s"] for r in good)
        error = max(r["cold"][way]["error"] for r in good)
        print(f"{way:8} {cold_s:8.1f} {ratio:8.2f} {warm_s:8.1f} {step_ms:8.2f} {error:9.1e}")


if __name__ == "__main__":
    main()
