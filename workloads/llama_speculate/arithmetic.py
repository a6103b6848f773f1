"""FLOPs and bytes of speculative decoding, refused proposals included: they are computed too."""

from __future__ import annotations

from collections.abc import Sequence

from tpubench.suite.workload import DTYPES, Case, Work
from tpubench.workloads.llama import config as llama
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama_speculate.acceptance import positions


def pass_flops(config: LlamaConfig, batch: int, cached: int, tokens: int, logits: int) -> int:
    """One pass over ``tokens`` new tokens of each sequence after ``cached`` ones; the output head
    over ``logits`` of them. Each attends to the cached ones, those before it and itself."""
    decoder = config.decoder
    seen = sum(decoder.attention_flops(1, cached + 1 + index) for index in range(tokens))
    return round(decoder.products_flops(batch * tokens, batch * logits) + batch * seen)


def pass_bytes(config: LlamaConfig, batch: int, cached: int, tokens: int, size: int) -> int:
    """Weights read once; the cached tokens read, the new ones written."""
    cache = batch * (cached + tokens) * config.kv_bytes_per_token(size)
    return llama.weight_bytes(config, size, batch * tokens) + cache


def draft_passes(position: int, draft_tokens: int) -> list[tuple[int, int]]:
    """Cached and new tokens of each pass of the draft, the newest token at ``position``: the first
    takes the token before it too."""
    later = [(position + index, 1) for index in range(1, draft_tokens)]
    return [(position - 1, 2), *later]


def work(case: Case, config: LlamaConfig, draft: LlamaConfig | None, kept: Sequence[int]) -> Work:
    """Prefill of both models, then the rounds."""
    size, batch = DTYPES[case.dtype], case.number("batch")
    length, k = case.number("input_len"), case.number("draft_tokens")
    models = [model for model in (config, draft) if model is not None]
    prefill = Work(
        items=batch * length,
        unit="token",
        flops=sum(llama.prefill_flops(model, batch, length) for model in models),
        bytes=sum(llama.prefill_bytes(model, batch, length, size) for model in models),
    )
    flops = moved = 0
    for position in positions(length, kept):
        flops += pass_flops(config, batch, position, k + 1, k + 1)
        moved += pass_bytes(config, batch, position, k + 1, size)
        if draft is None:
            continue
        for cached, new in draft_passes(position, k):
            flops += pass_flops(draft, batch, cached, new, 1)
            moved += pass_bytes(draft, batch, cached, new, size)
    decode = Work(
        items=batch * (case.number("output_len") - 1), unit="token", flops=flops, bytes=moved
    )
    return Work(
        items=batch * case.number("output_len"),
        unit="token",
        flops=prefill.flops + decode.flops,
        bytes=prefill.bytes + decode.bytes,
        phases={"prefill": prefill, "decode": decode},
    )
