"""Llama inference on the CPU: this suite against transformers, llama.cpp and the memory's limit.

    python benchmarks/llama_cpu.py [--rounds 7] [--json]

One run, one set of weights (SmolLM2-135M-Instruct dequantised to bfloat16), all threads. Contenders
take turns within each round, so that a noisy machine treats them alike; what counts is the median
over rounds of the ratio within a round. A decode step is timed after a 128-token prompt, over 64
tokens; the prefill over 512 tokens.

The limit, written down first: a decode step at batch 1 must read every weight once (269 MB) and
cannot beat the read bandwidth of the memory, which `read` measures in the same process; a prefill
must do 2 FLOPs a weight and token and cannot beat `gemm`. Prediction: compiled blocks reach about
0.6 of llama.cpp at batch 1, where the rest is the cost of some 10 kernels and one Python call a
layer; packed weights reach 0.75 at batch 8; the prefill, one oneDNN matrix multiplication after
another, is above llama.cpp's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import smollm2

from tpubench.results import fingerprint
from tpubench.suite import registry, timing
from tpubench.suite.prepared import clockwork, pass_window
from tpubench.suite.workload import Device, Step, Weights
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads.llama.model import Attention, Block, Llama

PROMPT, TOKENS, LONG_PROMPT = 128, 64, 512
MODES = ("compiled", "packed", "eager")


def ours(mode: str, weights: Weights, batch: int, prompt: int, output: int) -> Callable[[], float]:
    """Seconds of a decode step (of the prefill when ``output`` is 1), through the suite's clock."""
    workload, backend = registry.workload("llama-infer"), registry.backend("cpu")
    settings = {"batch": batch, "input_len": prompt, "output_len": output}
    (case,) = workload.cases("smollm2-135m", {k: [str(v)] for k, v in settings.items()})
    step: Step = workload.build(
        workload.prepare(case, weights), Device(torch_device="cpu"), weights
    )
    backend.compile(step, mode)
    works, window = clockwork(backend), pass_window(step)

    def measure() -> float:
        (laps,) = timing.throughput(works, window, passes=1).laps_s
        return laps[0] if output == 1 else sum(laps[1:]) / len(laps[1:])

    return measure


def hugging_face(model: Llama) -> Any:
    """``transformers``' own Llama with exactly these weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    theirs: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab,
            hidden_size=config.d_model,
            intermediate_size=config.d_ffn,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.max_context,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tied,
            eos_token_id=None,
        )
    )
    heads = [config.n_heads * config.head_dim] + [config.n_kv_heads * config.head_dim] * 2
    state = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.weight,
    }
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block) and isinstance(block.attention, Attention)
        query, key, value = torch.split(block.attention.qkv.weight, heads)
        gate, up = block.ffn.gate_up.weight.chunk(2)
        layer = {
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.attention.out.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.ffn.down.weight,
            "input_layernorm": block.attention_norm.weight,
            "post_attention_layernorm": block.ffn_norm.weight,
        }
        state |= {f"model.layers.{index}.{name}.weight": w for name, w in layer.items()}
    theirs.to(torch.bfloat16).load_state_dict(state)
    return theirs.eval()


def transformers(source: Path, batch: int, prompt: int, output: int) -> Callable[[], float]:
    """The same through ``transformers`` generate, greedy, without a stopping token."""
    ours = Llama(read_config(source), 1, torch.bfloat16)
    load(source, ours)
    model = hugging_face(ours)
    ids = torch.randint(0, ours.config.vocab, (batch, prompt))
    mask = torch.ones_like(ids)

    def generate(tokens: int) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
            )
        return time.perf_counter() - began

    def measure() -> float:
        first = generate(1)
        return first if output == 1 else (generate(output) - first) / (output - 1)

    return measure


def read_bytes_s() -> float:
    """Bytes a second of summing 256 MiB, the best of three."""
    source = torch.ones(2**26)
    source.sum()
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        source.sum()
        best = max(best, source.nbytes / (time.perf_counter() - began))
    return best


def gemm_flop_s() -> float:
    """FLOP/s of a bfloat16 matrix multiplication of 2048 cubed, the best of three."""
    a, b = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
    a @ b
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best


def compare(contenders: dict[str, Callable[[], float]], rounds: int) -> list[dict[str, float]]:
    """Seconds of each contender and the two limits, for each round."""
    for name, measure in contenders.items():
        print(f"  warming up {name}", file=sys.stderr)
        measure()
        measure()
    rounds_s = []
    for number in range(rounds):
        print(f"  round {number + 1} of {rounds}", file=sys.stderr)
        seconds = {name: measure() for name, measure in contenders.items()}
        rounds_s.append({**seconds, "read_bytes_s": read_bytes_s(), "gemm_flop_s": gemm_flop_s()})
    return rounds_s


def line(rounds_s: list[dict[str, float]], name: str, least: float, unit: str) -> dict[str, object]:
    """One contender's row of the table; ``least`` is what a step must read or compute."""
    limit = "read_bytes_s" if unit == "byte" else "gemm_flop_s"

    def ratio(to: str) -> float:
        return statistics.median(turn[to] / turn[name] for turn in rounds_s)

    return {
        "contender": name,
        "median_ms": 1e3 * statistics.median(turn[name] for turn in rounds_s),
        "best_ms": 1e3 * min(turn[name] for turn in rounds_s),
        "x_transformers": ratio("transformers"),
        "x_llama_cpp": ratio("llama.cpp"),
        "x_eager": ratio("eager"),
        "of_limit": statistics.median(least / turn[name] / turn[limit] for turn in rounds_s),
    }


def show(name: str, table: list[dict[str, object]], threads: int, rounds: int) -> None:
    """One table, as soon as it is known."""
    limit = "read bandwidth" if name.startswith("decode") else "GEMM rate"
    headings = f"{'median':>9} {'best':>9} {'× hf':>6} {'× l.cpp':>8} {'× eager':>8}"
    print(f"\n{name} ({threads} threads, bfloat16, {rounds} rounds)")
    print(f"{'':14} {headings}  of the {limit}")
    for row in table:
        print(
            f"{row['contender']:14} {row['median_ms']:6.1f} ms {row['best_ms']:6.1f} ms"
            f" {row['x_transformers']:6.2f} {row['x_llama_cpp']:8.2f} {row['x_eager']:8.2f}"
            f"  {row['of_limit']:.0%}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    threads = fingerprint.usable_cores()
    torch.set_num_threads(threads)
    source = smollm2.gguf()
    weights = Weights(path=source)
    workload = registry.workload("llama-infer")
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        model = llama_cpp.bfloat16_copy(source, Path(folder) / "bf16.gguf")
        for name, batch, prompt, output in (
            ("decode, batch 1", 1, PROMPT, TOKENS),
            ("decode, batch 8", 8, PROMPT, TOKENS),
            (f"prefill of {LONG_PROMPT}, batch 1", 1, LONG_PROMPT, 1),
        ):
            print(name, file=sys.stderr)
            modes = MODES if output > 1 else MODES[1:]
            contenders = {m: ours(m, weights, batch, prompt, output) for m in modes}
            contenders["transformers"] = transformers(source, batch, prompt, output)
            if output == 1:
                contenders["llama.cpp"] = partial(llama_cpp.prefill_s, model, prompt, threads)
            else:
                contenders["llama.cpp"] = partial(
                    llama_cpp.decode_s, model, batch, prompt, output, threads
                )
            rounds_s = compare(contenders, options.rounds)
            settings = {"batch": batch, "input_len": prompt, "output_len": output}
            (case,) = workload.cases("smollm2-135m", {k: [str(v)] for k, v in settings.items()})
            work = workload.work(case).phases
            if output == 1:
                least, unit = work["prefill"].flops, "flop"
            else:
                least, unit = work["decode"].bytes // (output - 1), "byte"
            tables[name] = [line(rounds_s, contender, least, unit) for contender in contenders]
            if not options.json:
                show(name, tables[name], threads, options.rounds)
            del contenders
    if options.json:
        print(json.dumps(tables))


if __name__ == "__main__":
    main()
