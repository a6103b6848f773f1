"""A Hugging Face folder: config.json and safetensors, in one file or in shards.

Keys and their defaults are those of transformers' Llama, Mistral, Qwen2 and Qwen3 configurations;
a key without a safe default must be there. Rotary scaling is read in its old form
(``rope_scaling`` with ``type`` or ``rope_type``, ``rope_theta`` beside it) and its newer one
(``rope_parameters`` with everything inside).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.suite.workload import open_regular
from tpubench.workloads._checkpoint.header import (
    MAX_LAYERS,
    PICKLED,
    Header,
    check_shape,
    is_file,
    one_line,
    quoted,
    read_json,
    refused,
)
from tpubench.workloads.llama.config import LlamaConfig, RopeScaling, yarn_magnitude

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""``model_type`` to the one class whose arithmetic the program has."""

NAMES = {
    "embedding": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "head": "lm_head.weight",
    "attention_norm": "model.layers.{layer}.input_layernorm.weight",
    "ffn_norm": "model.layers.{layer}.post_attention_layernorm.weight",
    "q": "model.layers.{layer}.self_attn.q_proj.{kind}",
    "k": "model.layers.{layer}.self_attn.k_proj.{kind}",
    "v": "model.layers.{layer}.self_attn.v_proj.{kind}",
    "o": "model.layers.{layer}.self_attn.o_proj.{kind}",
    "q_norm": "model.layers.{layer}.self_attn.q_norm.weight",
    "k_norm": "model.layers.{layer}.self_attn.k_norm.weight",
    "gate": "model.layers.{layer}.mlp.gate_proj.{kind}",
    "up": "model.layers.{layer}.mlp.up_proj.{kind}",
    "down": "model.layers.{layer}.mlp.down_proj.{kind}",
}

UNSUPPORTED = {
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts",
    "attn_logit_softcapping": "soft-capped attention scores",
    "final_logit_softcapping": "soft-capped logits",
    "use_qk_norm": "normalised queries and keys",
    "qk_layernorm": "normalised queries and keys",
    "auto_map": "code of its own",
}
"""Keys that change the arithmetic when set, and what they stand for."""

ROPE_KEYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
SCALING_KEYS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    },
    "yarn": {
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    },
}

MAX_HEADER_BYTES = 16 << 20
"""Of a safetensors file: a hundred times that of the largest supported model."""

STORED = {"F64", "F32", "F16", "BF16"}
"""Safetensors element types that are plain numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFolder:
    """An opened folder: its configuration, and which file holds each tensor."""

    path: Path
    config: LlamaConfig
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]

    @property
    def names(self) -> Mapping[str, str]:
        return NAMES

    def tensors(self, names: Collection[str]) -> Iterator[tuple[str, int, Tensor]]:
        """Each tensor whole, a view of the mapped file."""
        from safetensors import SafetensorError, safe_open

        if self.config.tied and NAMES["embedding"] in names and NAMES["head"] in self.files:
            _check_tied(self.files)
        for file in dict.fromkeys(self.files[name] for name in self.files if name in names):
            try:
                with safe_open(file, framework="pt", device="cpu") as shard:
                    for name in shard.keys():  # noqa: SIM118 - not a mapping
                        if name in names:
                            yield name, 0, shard.get_tensor(name)
            except (SafetensorError, OSError, MemoryError) as error:
                raise refused(file, f"cannot be read: {one_line(error)}") from None


def open_folder(folder: Path) -> SafetensorsFolder:
    """Reads config.json and the headers of the safetensors files; UsageError as in read_config."""
    config_file = folder / "config.json"
    if not is_file(config_file):
        raise refused(folder, "there is no config.json in this folder")
    config = config_from_json(config_file, read_json(config_file))
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, Path] = {}
    for file in _shards(folder):
        for name, shape in _read_header(file).items():
            if name in files:
                raise refused(file, f"tensor {quoted(name)} is in {files[name].name} too")
            files[name] = file
            # Rotary frequencies follow from config.json; old checkpoints store them as well.
            if not name.endswith(".rotary_emb.inv_freq"):
                shapes[name] = shape
    if config.tied:
        shapes.pop(NAMES["head"], None)  # may be stored as well: compared when loading
    return SafetensorsFolder(path=folder, config=config, shapes=shapes, files=files)


def config_from_json(path: Path, values: Mapping[str, object]) -> LlamaConfig:
    """The configuration in config.json; UsageError naming what is not supported."""
    header = Header(path=path, values=values)
    kind = header.text("model_type")
    if kind not in ARCHITECTURES:
        raise header.error("model_type", f"supported: {', '.join(ARCHITECTURES)}")
    architectures = header.get("architectures") or [ARCHITECTURES[kind]]
    if not isinstance(architectures, list) or ARCHITECTURES[kind] not in architectures:
        raise header.error("architectures", f"supported: {ARCHITECTURES[kind]}")
    quantization = header.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise refused(
            path, f"{quoted(method)} quantisation is not supported: use a GGUF or plain weights"
        )
    for key, meaning in UNSUPPORTED.items():
        if header.is_set(key):
            raise header.error(key, f"{meaning}: not supported")
    if header.text("hidden_act", "silu") not in ("silu", "swish"):
        raise header.error("hidden_act", "only silu is supported")
    window = _window(header, kind)

    d_model, n_heads = header.count("hidden_size"), header.count("num_attention_heads")
    head_dim = header.count("head_dim", max(1, d_model // n_heads))
    if kind == "qwen3":
        head_dim = header.count("head_dim", 128)
    elif header.get("head_dim") is None and d_model % n_heads:
        raise header.error("num_attention_heads", f"hidden_size {d_model} is not a multiple of it")
    max_context = header.count("max_position_embeddings")
    # Llama and Qwen3 have one switch for four biases; Qwen2 always has three of them, Mistral none.
    biased = header.flag("attention_bias", False) if kind in ("llama", "qwen3") else False
    theta, scaling = _rope(header, max_context)
    config = LlamaConfig(
        d_model=d_model,
        n_layers=header.count("num_hidden_layers", maximum=MAX_LAYERS),
        n_heads=n_heads,
        n_kv_heads=header.count("num_key_value_heads", n_heads),
        head_dim=head_dim,
        d_ffn=header.count("intermediate_size"),
        vocab=header.count("vocab_size"),
        tied=header.flag("tie_word_embeddings", False),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=header.number("rms_norm_eps"),
        attention_bias=biased or kind == "qwen2",
        output_bias=biased,
        max_context=max_context,
        qk_norm=kind == "qwen3",
        mlp_bias=header.flag("mlp_bias", False) if kind == "llama" else False,
        window=window if window is not None and window < max_context else None,
    )
    return check_shape(path, config)


def _window(header: Header, kind: str) -> int | None:
    """Tokens back to which some layer attends; None when every layer attends to all of them.

    UsageError for a layer that attends in another way.
    """
    layers = header.get("layer_types") or []
    known = {"full_attention", "sliding_attention"}
    if not isinstance(layers, list) or not all(
        isinstance(layer, str) and layer in known for layer in layers
    ):
        raise header.error("layer_types", f"supported: {', '.join(sorted(known))}")
    if kind in ("qwen2", "qwen3"):
        slides = header.flag("use_sliding_window", False)
    else:
        slides = header.is_set("sliding_window") or (
            # Its absence means 4096 there; full attention is written as null.
            kind == "mistral" and "sliding_window" not in header.values
        )
    if slides:
        return header.count("sliding_window", 4096)
    if "sliding_attention" in layers:
        raise header.error("layer_types", "sliding_attention, but no sliding_window is in use")
    return None


def _rope(header: Header, max_context: int) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling."""
    old, new = header.get("rope_scaling"), header.get("rope_parameters")
    if old and new and old != new:
        raise header.error("rope_scaling", "rope_parameters says something else")
    key = "rope_parameters" if new else "rope_scaling"
    values = new or old or {}
    if not isinstance(values, dict):
        raise header.error(key, "not a JSON object")
    prefix = f"{key}."
    inner = {prefix + name: value for name, value in values.items()}
    rope = Header(path=header.path, values=inner, prefix=prefix)
    kind = rope.text("rope_type", rope.text("type", "default"))
    if kind not in SCALING_KEYS:
        raise header.error(key, f"supported rotary scalings: {', '.join(SCALING_KEYS)}")
    for name in sorted(values.keys() - ROPE_KEYS - SCALING_KEYS[kind]):
        if values[name] is not None:
            raise rope.error(name, f"not supported with {kind} rotary scaling")
    for source in (header, rope):
        if source.number("partial_rotary_factor", 1.0) != 1.0:
            raise source.error("partial_rotary_factor", "partial rotary positions: not supported")
    theta = rope.number("rope_theta", header.number("rope_theta", 10_000.0))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=rope.number("factor"))
    original = rope.count("original_max_position_embeddings", max_context)
    if kind == "yarn":
        return theta, _yarn(rope, header.count("original_max_position_embeddings", original))
    return theta, RopeScaling(
        kind="llama3",
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context=header.count("original_max_position_embeddings", original),
    )


def _yarn(rope: Header, original: int) -> RopeScaling:
    """YaRN, with the defaults of transformers for what is not stated."""
    factor = rope.number("factor")
    magnitude = yarn_magnitude(factor)
    if rope.is_set("attention_factor"):
        magnitude = rope.number("attention_factor")
    elif rope.is_set("mscale") and rope.is_set("mscale_all_dim"):
        whole = yarn_magnitude(factor, rope.number("mscale_all_dim"))
        magnitude = yarn_magnitude(factor, rope.number("mscale")) / whole
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        fast_turns=rope.number("beta_fast", 32.0),
        slow_turns=rope.number("beta_slow", 1.0),
        magnitude=magnitude,
        whole_pairs=rope.flag("truncate", True),
    )


def _shards(folder: Path) -> list[Path]:
    """The safetensors files that hold the model."""
    index = folder / "model.safetensors.index.json"
    if is_file(index):
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise refused(index, "has no weight_map from tensor to file: the file is damaged")
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            # A shard lies beside its index: no path in it may lead elsewhere.
            if Path(name).name != name or not is_file(folder / name):
                raise refused(index, f"its shard {quoted(name)} is not in the folder")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if (folder / "model.safetensors") in files:
        return [folder / "model.safetensors"]
    if len(files) == 1:
        return files
    if files:
        raise refused(folder, "several *.safetensors and no model.safetensors.index.json")
    pickled = sorted(f for f in folder.glob("*") if f.suffix in PICKLED)
    if pickled:
        raise refused(
            pickled[0], "a pickled checkpoint runs code when read: convert to safetensors"
        )
    raise refused(folder, "there is no *.safetensors file in this folder")


def _read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in one file, after checking how they are stored."""
    from safetensors import SafetensorError, safe_open

    shapes = {}
    try:
        with open_regular(file) as stream:
            size = int.from_bytes(stream.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise refused(file, f"its header has {size:,} bytes: truncated or not safetensors")
        with safe_open(file, framework="numpy") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a mapping
                part = shard.get_slice(name)
                if part.get_dtype() not in STORED:
                    raise refused(file, f"tensor {quoted(name)} is stored as {part.get_dtype()}")
                shapes[name] = tuple(part.get_shape())
    except OSError as error:
        raise refused(file, f"cannot be read ({one_line(error)})") from None
    except (SafetensorError, MemoryError) as error:
        raise refused(file, f"truncated or not safetensors: {one_line(error)}") from None
    return shapes


def _check_tied(files: Mapping[str, Path]) -> None:
    """A tied model may store its head as well, if it is the embedding."""
    import torch
    from safetensors import SafetensorError, safe_open

    head, embedding = files[NAMES["head"]], files[NAMES["embedding"]]
    try:
        with safe_open(head, framework="pt") as first:
            one = first.get_tensor(NAMES["head"])
        with safe_open(embedding, framework="pt") as second:
            same = torch.equal(one, second.get_tensor(NAMES["embedding"]))
    except (SafetensorError, OSError, MemoryError) as error:
        raise refused(head, f"cannot be read: {one_line(error)}") from None
    if not same:
        raise refused(head, "lm_head.weight differs from the embedding, yet config.json ties them")
