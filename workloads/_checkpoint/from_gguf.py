"""A Llama out of a GGUF file: configuration from its header, weights dequantised row by row.

Keys are those of the GGUF specification. Files of architecture ``llama`` (Llama, Mistral, SmolLM2
…) keep query and key rows in the order that rotates neighbouring elements; the program rotates
halves of a head, so the rows are put back. Architecture ``qwen2`` keeps them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpubench.workloads._checkpoint.gguf import GgufFile, GgufTensor, read_gguf
from tpubench.workloads._checkpoint.header import (
    MAX_LAYERS,
    MAX_NUMBER,
    Header,
    check_shape,
    quoted,
    refused,
)
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.rope import RopeScaling, yarn_magnitude

if TYPE_CHECKING:
    from torch import Tensor

INTERLEAVED = {"llama": True, "qwen2": False, "qwen3": False}
"""Supported ``general.architecture``, and whether query and key rows are interleaved."""

NAMES = {
    "embedding": "token_embd.weight",
    "norm": "output_norm.weight",
    "head": "output.weight",
    "attention_norm": "blk.{layer}.attn_norm.weight",
    "ffn_norm": "blk.{layer}.ffn_norm.weight",
    "q": "blk.{layer}.attn_q.{kind}",
    "k": "blk.{layer}.attn_k.{kind}",
    "v": "blk.{layer}.attn_v.{kind}",
    "o": "blk.{layer}.attn_output.{kind}",
    "q_norm": "blk.{layer}.attn_q_norm.weight",
    "k_norm": "blk.{layer}.attn_k_norm.weight",
    "gate": "blk.{layer}.ffn_gate.{kind}",
    "up": "blk.{layer}.ffn_up.{kind}",
    "down": "blk.{layer}.ffn_down.{kind}",
}

ROPE_FACTORS = "rope_freqs.weight"
"""Numbers that divide the rotary frequencies, [H/2]; how converters store Llama 3.1's scaling."""

KNOWN = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
}
"""Keys under the architecture's name that are read here or change nothing."""

LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_CONTEXT = 1.0, 4.0, 8192
"""What every published Llama 3.1, 3.2 and 3.3 sets; the file keeps only the resulting factors."""

BLOCK_ELEMENTS = 2**18
"""Elements dequantised at a time: few enough for the intermediates to stay in cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufCheckpoint:
    """An opened GGUF file with a supported model in it."""

    file: GgufFile
    config: LlamaConfig
    interleaved: bool

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def names(self) -> Mapping[str, str]:
        return NAMES

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {n: t.shape for n, t in self.file.tensors.items() if n != ROPE_FACTORS}

    def tensors(self, names: Collection[str]) -> Iterator[tuple[str, int, Tensor]]:
        """Each tensor in float32, a few rows at a time."""
        import torch

        for name in names:
            for row, values in self._blocks(name):
                yield name, row, torch.from_numpy(values)

    def _blocks(self, name: str) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.float32]]]]:
        tensor = self.file.tensors[name]
        stored = _rows(self.file, name, tensor)
        order = self._row_order(name, tensor.shape[0])
        if len(tensor.shape) == 1:
            values = _dequantised(stored, tensor.kind).reshape(-1)
            yield 0, values if order is None else values[order]
            return
        step = max(1, BLOCK_ELEMENTS // tensor.shape[1])
        for first in range(0, len(stored), step):
            # Rows are quantised one by one, so they can be put in order before they are unpacked.
            rows = slice(first, first + step) if order is None else order[first : first + step]
            yield first, _dequantised(stored[rows], tensor.kind)

    def _row_order(self, name: str, rows: int) -> np.ndarray[Any, np.dtype[np.intp]] | None:
        """Stored row of each row, where they differ.

        Converters store row (half j, i) of a head of width H as row 2i + j, so that each rotated
        pair lies together.
        """
        if not self.interleaved or name.split(".")[-2] not in ("attn_q", "attn_k"):
            return None
        return np.arange(rows).reshape(-1, self.config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def open_gguf(path: Path) -> GgufCheckpoint:
    """Reads the header; UsageError as in read_config."""
    file = read_gguf(path)
    if Header(path=path, values=file.values).is_set("split.count"):
        parts = Header(path=path, values=file.values).count("split.count")
        if parts > 1:
            raise refused(path, f"one of {parts} parts: merge them with llama-gguf-split --merge")
    config = config_from_gguf(file)
    for name, tensor in file.tensors.items():
        _rows(file, name, tensor)
    return GgufCheckpoint(
        file=file,
        config=config,
        interleaved=INTERLEAVED[str(file.values["general.architecture"])],
    )


def config_from_gguf(file: GgufFile) -> LlamaConfig:
    """The configuration in the header; UsageError naming what is not supported."""
    path = file.path
    general = Header(path=path, values=file.values)
    architecture = general.text("general.architecture")
    if architecture not in INTERLEAVED:
        raise general.error("general.architecture", f"supported: {', '.join(INTERLEAVED)}")
    header = Header(path=path, values=file.values, prefix=f"{architecture}.")
    for key in file.values:
        name = key.removeprefix(header.prefix)
        if name != key and name not in KNOWN and header.is_set(name):
            raise header.error(name, "not supported: a dense Llama decoder has no such thing")

    embedding = file.tensors.get(NAMES["embedding"])
    if embedding is None:
        raise refused(path, f"tensor {NAMES['embedding']!r} is missing: it is incomplete")
    d_model, n_heads = header.count("embedding_length"), header.count("attention.head_count")
    head_dim = header.count("attention.key_length", max(1, d_model // n_heads))
    if header.get("attention.key_length") is None and d_model % n_heads:
        raise header.error("attention.head_count", f"{d_model} is not a multiple of it")
    if header.count("attention.value_length", head_dim) != head_dim:
        raise header.error("attention.value_length", f"keys are {head_dim} wide: not supported")
    if header.count("rope.dimension_count", head_dim) != head_dim:
        raise header.error("rope.dimension_count", "partial rotary positions: not supported")
    theta = header.number("rope.freq_base", 10_000.0)
    config = LlamaConfig(
        d_model=d_model,
        n_layers=header.count("block_count", maximum=MAX_LAYERS),
        n_heads=n_heads,
        n_kv_heads=header.count("attention.head_count_kv", n_heads),
        head_dim=head_dim,
        d_ffn=header.count("feed_forward_length"),
        vocab=header.count("vocab_size", embedding.shape[0]),
        tied=NAMES["head"] not in file.tensors,
        rope_theta=theta,
        rope_scaling=_rope_scaling(file, header, theta, head_dim),
        norm_eps=header.number("attention.layer_norm_rms_epsilon"),
        attention_bias=NAMES["q"].format(layer=0, kind="bias") in file.tensors,
        output_bias=NAMES["o"].format(layer=0, kind="bias") in file.tensors,
        max_context=header.count("context_length"),
        qk_norm=architecture == "qwen3",
        mlp_bias=NAMES["down"].format(layer=0, kind="bias") in file.tensors,
        window=_window(header),
    )
    return check_shape(path, config)


def _window(header: Header) -> int | None:
    """Tokens back to which some layer attends, where that is less than the whole context."""
    if not header.is_set("attention.sliding_window"):
        return None
    window = header.count("attention.sliding_window")
    return window if window < header.count("context_length") else None


def _rope_scaling(
    file: GgufFile, header: Header, theta: float, head_dim: int
) -> RopeScaling | None:
    """Scaling by one factor, or the one that a ``rope_freqs`` tensor spells out."""
    kind = header.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        known = "supported: none, linear, yarn, llama3 (rope_freqs)"
        raise header.error("rope.scaling.type", known)
    factor = 1.0
    if kind == "linear":
        key = "rope.scaling.factor"
        if not header.is_set(key):
            key = "rope.scale_linear"
        factor = header.number(key) if header.is_set(key) else 1.0
    stated = RopeScaling(kind="linear", factor=factor) if factor != 1.0 else None
    if kind == "yarn":
        factor = header.number("rope.scaling.factor")
        stated = RopeScaling(
            kind="yarn",
            factor=factor,
            magnitude=yarn_magnitude(factor),
            original_context=header.count(
                "rope.scaling.original_context_length", header.count("context_length")
            ),
        )
    tensor = file.tensors.get(ROPE_FACTORS)
    if tensor is None:
        return stated
    if tensor.shape != (head_dim // 2,):
        raise refused(file.path, f"tensor {ROPE_FACTORS!r} has not one factor a frequency")
    factors = _dequantised(_rows(file, ROPE_FACTORS, tensor), tensor.kind).reshape(-1)
    if np.all(factors == 1.0):
        return stated
    largest = float(factors.max())
    if not (factors.min() > 0 and largest <= MAX_NUMBER):  # NaN fails too
        raise refused(file.path, f"tensor {ROPE_FACTORS!r} holds impossible factors")
    frequencies = theta ** (-2 * np.arange(len(factors)) / head_dim)
    expected = _llama3_factors(frequencies, largest)
    if stated is not None or not np.allclose(factors, expected, rtol=1e-5, atol=0):
        raise refused(file.path, f"the factors in {ROPE_FACTORS!r} are not Llama 3.1's scaling")
    return RopeScaling(
        kind="llama3",
        factor=float(str(np.float32(largest))),
        low_freq_factor=LLAMA3_LOW,
        high_freq_factor=LLAMA3_HIGH,
        original_context=LLAMA3_CONTEXT,
    )


def _llama3_factors(
    frequencies: np.ndarray[Any, np.dtype[np.float64]], factor: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What Llama 3.1 divides rotary frequencies by (see ``rope_frequencies`` in llama/model.py)."""
    turns = LLAMA3_CONTEXT * frequencies / (2 * math.pi)
    smooth = np.clip((turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW), 0.0, 1.0)
    return 1 / ((1 - smooth) / factor + smooth)


def _rows(
    file: GgufFile, name: str, tensor: GgufTensor
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The bytes of a tensor, [rows, bytes a row]; UsageError when they are not all there."""
    block, block_bytes = _block_size(tensor.kind)
    if not block:
        raise refused(file.path, f"tensor {quoted(name)} has unsupported type {tensor.kind}")
    *outer, columns = tensor.shape
    rows = math.prod(outer)
    if not rows or not columns or columns % block:
        raise refused(file.path, f"tensor {quoted(name)} has a bad shape {list(tensor.shape)}")
    row_bytes = columns // block * block_bytes
    end = tensor.start + rows * row_bytes
    if end > len(file.data):
        raise refused(file.path, f"the file is truncated: it ends before tensor {quoted(name)}")
    return file.data[tensor.start : end].reshape(rows, row_bytes)


@cache
def _block_size(kind: int) -> tuple[int, int]:
    """Elements and bytes of one block of a ggml type; zeros when gguf cannot dequantise it."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        quantization = GGMLQuantizationType(kind)
        block, block_bytes = GGML_QUANT_SIZES[quantization]
        dequantize(np.zeros((1, block_bytes), dtype=np.uint8), quantization)
    except (ValueError, KeyError, NotImplementedError):
        return 0, 0
    return int(block), int(block_bytes)


def _dequantised(
    rows: np.ndarray[Any, np.dtype[np.uint8]], kind: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values of some rows, in memory of their own (torch wants it writable)."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    values = dequantize(np.ascontiguousarray(rows), GGMLQuantizationType(kind))
    return np.require(values, dtype=np.float32, requirements=["C", "W", "A"])
