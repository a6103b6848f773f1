"""Llama inference on one GPU: this suite against transformers and the device's two limits.

    python benchmarks/llama_gpu.py [--preset llama-3.1-8b] [--batch 1,64] [--rounds 3] [--json]

One process, one GPU, random bfloat16 weights of one shape, in one call. First the limits: bytes a
second of copying 1 GiB, and FLOP/s of an 8192-cube matrix product, both over windows of seconds
under load, so at the power limit that the program itself meets. Then, one after the other because
two models of this size do not fit together, the suite in each compile mode, the first of them again
with each other choice of attention for the prompt, and transformers (static cache, its decode
compiled), all with one timer: the device is waited for at the ends of a pass. Each row is printed
as it is there, with the seconds that building and compiling it took; contenders that would begin
after ``--budget`` seconds are left out, and one that fails is named; the others go on.

The floor of a decode step, written down first: every weight and the filled cache are read once, at
the copy bandwidth of this call. A prefill cannot beat the matrix product of this call. Published
peers stand at 1.22 to 1.24 times the floor at batch 1 on data-centre GPUs.

``--device cpu --preset tiny`` runs the script itself without a GPU; its figures mean nothing.
``--modes graphs flex tuned --prefill default cudnn`` are what a GPU has to decide between.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tpubench.suite import registry
from tpubench.suite.prepared import clockwork
from tpubench.suite.timing import throughput
from tpubench.suite.workload import Case, Weights, Window
from tpubench.workloads.llama.config import PRESETS

BACKENDS = {"cuda": "cuda", "cpu": "cpu"}
WINDOW_S = {"cuda": 2.0, "cpu": 0.05}
"""Of each limit. The CPU's only shows that the script runs."""


_OTHERS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
PREFILLS: dict[str, list[SDPBackend]] = {
    "default": [],
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, *_OTHERS],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, *_OTHERS],
}
"""Whose attention torch takes for a prompt, the first that can; empty for torch's own order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Medians over rounds, and building, compiling and warming up; seconds."""

    contender: str
    prefill_s: float
    decode_s: float
    set_up_s: float


@contextmanager
def preferring(prefill: str) -> Iterator[None]:
    """Attention chosen in that order by what is traced inside."""
    if not PREFILLS[prefill]:
        yield
        return
    import torch._functorch.config as functorch

    # AOTAutograd's cache does not know the order: it would give the program of another one.
    with (
        sdpa_kernel(PREFILLS[prefill], set_priority=True),
        functorch.patch(enable_autograd_cache=False),
    ):
        yield


class Bench:
    """One device, its timer, and what a case must do at least."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.backend = registry.backend(BACKENDS[device])

    def open(self) -> None:
        self.place = self.backend.open("eager")

    def wait(self) -> None:
        self.backend.barrier()

    def seconds(self, run: Callable[[], object]) -> float:
        """Wall time of one call, from an idle device to an idle device."""
        self.wait()
        began = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began

    def sustained_s(self, run: Callable[[], object]) -> float:
        """Mean seconds of a call in a window of calls back to back, after one such window."""
        self.seconds(run)
        one_s = max(self.seconds(run), 1e-6)
        calls = max(1, round(WINDOW_S[self.device] / one_s))

        def many() -> None:
            for _ in range(calls):
                run()

        self.seconds(many)
        return self.seconds(many) / calls

    def copy_bytes_s(self, mib: int) -> float:
        """Bytes read and written a second by a copy of ``mib`` MiB."""
        source = torch.ones(mib * 2**18, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self.sustained_s(lambda: target.copy_(source))

    def gemm_flop_s(self, n: int) -> float:
        """FLOP/s of an n × n × n product in bfloat16."""
        a, b = (torch.randn(n, n, device=self.device).bfloat16() for _ in range(2))
        c = torch.empty_like(a)
        return 2 * n**3 / self.sustained_s(lambda: torch.mm(a, b, out=c))


def suite(bench: Bench, case: Case, rounds: int, mode: str, prefill: str) -> Timing:
    """The suite's own program, through the suite's own windows."""
    began = time.perf_counter()
    workload = registry.workload("llama-infer")
    step = workload.build(case, bench.place, Weights())
    step.barrier, step.flush = bench.backend.barrier, bench.backend.flush
    bench.backend.compile(step, mode)
    works = clockwork(bench.backend)
    whole = Window(run=step.run, marks=tuple(step.marks))
    prompts = step.windows()["prefill"]
    prefills_s, decodes_s = [], []
    with preferring(prefill):
        for _ in range(3):  # compile, capture, warm
            throughput(works, whole, passes=1)
            throughput(works, prompts, passes=1)
        set_up_s = time.perf_counter() - began
        for _ in range(rounds):
            prefills_s.append(throughput(works, prompts, passes=2).wall_s / 2)
            (laps,) = throughput(works, whole, passes=1).laps_s
            decodes_s.append(sum(laps[1:]) / len(laps[1:]))
    return Timing(
        contender=f"tpubench {mode}" + (f", {prefill}" if PREFILLS[prefill] else ""),
        prefill_s=statistics.median(prefills_s),
        decode_s=statistics.median(decodes_s),
        set_up_s=set_up_s,
    )


def transformers(bench: Bench, case: Case, rounds: int) -> Timing:
    """``transformers`` generate, greedy, its cache static; on a GPU it compiles the decode."""
    began = time.perf_counter()
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers import __version__ as version

    shape = PRESETS[case.preset]
    batch, prompt, output = (case.number(k) for k in ("batch", "input_len", "output_len"))
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            model: Any = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=shape.vocab,
                    hidden_size=shape.d_model,
                    intermediate_size=shape.d_ffn,
                    num_hidden_layers=shape.n_layers,
                    num_attention_heads=shape.n_heads,
                    num_key_value_heads=shape.n_kv_heads,
                    head_dim=shape.head_dim,
                    max_position_embeddings=shape.max_context,
                    tie_word_embeddings=shape.tied,
                    eos_token_id=None,
                )
            ).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    ids = torch.randint(0, shape.vocab, (batch, prompt), device=bench.device)
    mask = torch.ones_like(ids)

    def generate(tokens: int) -> None:
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                eos_token_id=None,
                pad_token_id=0,
                cache_implementation="static",
            )

    for tokens in (output, output, 1):
        generate(tokens)
    set_up_s = time.perf_counter() - began
    prefills_s, decodes_s = [], []
    for _ in range(rounds):
        prefill_s = bench.seconds(lambda: generate(1))
        prefills_s.append(prefill_s)
        decodes_s.append((bench.seconds(lambda: generate(output)) - prefill_s) / (output - 1))
    return Timing(
        contender=f"transformers {version}",
        prefill_s=statistics.median(prefills_s),
        decode_s=statistics.median(decodes_s),
        set_up_s=set_up_s,
    )


def tidy(bench: Bench) -> None:
    """What one contender held is gone before the next begins."""
    torch.compiler.reset()
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()


def contenders(bench: Bench, case: Case, options: Any) -> dict[str, Callable[[], Timing]]:
    """What is to be timed, by name, in order."""
    named: dict[str, Callable[[], Timing]] = {}
    modes = options.modes or [mode for mode in bench.backend.compile_modes if mode != "eager"]
    first, *others = options.prefill
    for mode, prefill in [*((mode, first) for mode in modes), *((modes[0], o) for o in others)]:
        named[f"{mode}, {prefill}"] = partial(suite, bench, case, options.rounds, mode, prefill)
    if not options.no_peer:
        named["transformers"] = lambda: transformers(bench, case, options.rounds)
    return named


def compare(bench: Bench, case: Case, limits: dict[str, float], options: Any) -> list[Any]:
    """Each contender of one case, against the floor and, where it was timed, transformers."""
    phases = registry.workload("llama-infer").work(case).phases
    floor_s = phases["decode"].bytes / (case.number("output_len") - 1) / limits["copy_bytes_s"]
    rows: list[Any] = []
    for name, contender in contenders(bench, case, options).items():
        if time.perf_counter() - options.began > options.budget:
            print(f"left out, {options.budget:.0f} s are over: {name}", file=sys.stderr, flush=True)
            continue
        try:
            one = contender()
        except RuntimeError:  # as torch's compilers and devices raise: the others still have a say
            traceback.print_exc()
            print(f"failed: {name}", file=sys.stderr, flush=True)
            options.failed.append(name)
            continue
        finally:
            tidy(bench)
        row = {
            "contender": one.contender,
            "batch": case.number("batch"),
            "decode_ms": 1e3 * one.decode_s,
            "x_floor": one.decode_s / floor_s,
            "prefill_ms": 1e3 * one.prefill_s,
            "of_gemm": phases["prefill"].flops / one.prefill_s / limits["gemm_flop_s"],
            "set_up_s": one.set_up_s,
        }
        show(row, sys.stderr)
        rows.append(row)
    if rows and rows[-1]["contender"].startswith("transformers"):
        peer = rows[-1]
        for row in rows:
            row["x_transformers"] = peer["decode_ms"] / row["decode_ms"]
            row["prefill_x_transformers"] = peer["prefill_ms"] / row["prefill_ms"]
            print(
                f"{row['contender']:24}{row['batch']:6}: {row['x_transformers']:.2f} ×"
                f" transformers' decode, {row['prefill_x_transformers']:.2f} × its prefill",
                file=sys.stderr,
                flush=True,
            )
    return rows


HEAD = f"{'':24}{'batch':>6}{'decode':>12}{'× floor':>9}{'prefill':>12}{'of gemm':>9}{'set-up':>9}"


def show(row: dict[str, Any], out: Any) -> None:
    print(
        f"{row['contender']:24}{row['batch']:6}{row['decode_ms']:9.3f} ms{row['x_floor']:9.2f}"
        f"{row['prefill_ms']:9.1f} ms{row['of_gemm']:9.0%}{row['set_up_s']:7.1f} s",
        file=out,
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(BACKENDS), default="cuda")
    parser.add_argument("--preset", default="llama-3.1-8b", choices=list(PRESETS))
    parser.add_argument("--batch", default="1,64")
    parser.add_argument("--input-len", type=int, default=1024)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument(
        "--modes", nargs="*", help="compile modes of the suite; all but eager by default"
    )
    parser.add_argument("--prefill", nargs="+", default=["default"], choices=list(PREFILLS))
    parser.add_argument("--no-peer", action="store_true", help="without transformers")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds, of the whole call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.output_len < 2:
        parser.error("--output-len must be at least 2: a decode step is timed")
    options.began, options.failed = time.perf_counter(), []
    bench = Bench(options.device)
    unknown = {*(options.modes or [])} - {*bench.backend.compile_modes}
    if unknown:
        parser.error(f"{options.device} has no mode {', '.join(sorted(unknown))}")
    os.environ.update(bench.backend.child_environment())  # the suite's own compile cache
    bench.open()
    on_gpu = options.device == "cuda"
    limits = {
        "copy_bytes_s": bench.copy_bytes_s(1024 if on_gpu else 4),
        "gemm_flop_s": bench.gemm_flop_s(8192 if on_gpu else 256),
    }
    print(
        f"{bench.backend.device_name()}: copy {limits['copy_bytes_s'] / 1e12:.3g} TB/s,"
        f" gemm {limits['gemm_flop_s'] / 1e12:.3g} TFLOP/s",
        file=sys.stderr,
    )
    workload = registry.workload("llama-infer")
    settings = {
        "batch": options.batch.split(","),
        "input_len": [str(options.input_len)],
        "output_len": [str(options.output_len)],
    }
    rows: list[Any] = []
    for case in workload.cases(options.preset, settings, accelerator=on_gpu):
        print(HEAD, file=sys.stderr)
        rows += compare(bench, workload.prepare(case, Weights()), limits, options)
    if options.json:
        document = {"device": bench.backend.device_name(), "limits": limits, "rows": rows}
        more = {"failed": options.failed, "description": bench.backend.describe()}
        print(json.dumps({**document, **more}))
    if options.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
