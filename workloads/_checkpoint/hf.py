"""A Hugging Face folder: config.json and safetensors, in one file or in shards.

Keys and their defaults are those of transformers' configurations of each family (``families.py``);
a key without a safe default must be there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.suite.workload import open_regular
from tpubench.workloads._checkpoint.families import FAMILIES, Family, row_order
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
from tpubench.workloads._checkpoint.rotary import rotary
from tpubench.workloads.llama.config import LlamaConfig

if TYPE_CHECKING:
    from torch import Tensor

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

MAX_HEADER_BYTES = 16 << 20
"""Of a safetensors file: a hundred times that of the largest supported model."""

STORED = {"F64", "F32", "F16", "BF16"}
"""Safetensors element types that are plain numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFolder:
    """An opened folder: its configuration, and which file holds each tensor."""

    path: Path
    config: LlamaConfig
    family: Family
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]

    @property
    def names(self) -> Mapping[str, str]:
        return self.family.names

    def tensors(self, names: Collection[str]) -> Iterator[tuple[str, int, Tensor]]:
        """Each tensor whole, a view of the mapped file where its rows are in our order."""
        from safetensors import SafetensorError, safe_open

        if (
            self.config.tied
            and self.names["embedding"] in names
            and self.names["head"] in self.files
        ):
            _check_tied(
                self.files[self.names["head"]], self.files[self.names["embedding"]], self.names
            )
        for file in dict.fromkeys(self.files[name] for name in self.files if name in names):
            try:
                with safe_open(file, framework="pt", device="cpu") as shard:
                    for name in shard.keys():  # noqa: SIM118 - not a mapping
                        if name in names:
                            order = row_order(self.family, self.config, name)
                            rows = shard.get_tensor(name)
                            yield name, 0, rows if order is None else rows[order]
            except (SafetensorError, OSError, MemoryError) as error:
                raise refused(file, f"cannot be read: {one_line(error)}") from None


def open_folder(folder: Path) -> SafetensorsFolder:
    """Reads config.json and the headers of the safetensors files; UsageError as in read_config."""
    config_file = folder / "config.json"
    if not is_file(config_file):
        raise refused(folder, "there is no config.json in this folder")
    config = config_from_json(config_file, values := read_json(config_file))
    family = FAMILIES[str(values["model_type"])]
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
        shapes.pop(family.names["head"], None)  # may be stored as well: compared when loading
    return SafetensorsFolder(path=folder, config=config, family=family, shapes=shapes, files=files)


def config_from_json(path: Path, values: Mapping[str, object]) -> LlamaConfig:
    """The configuration in config.json; UsageError naming what is not supported."""
    header = Header(path=path, values=values)
    kind = header.text("model_type")
    if kind not in FAMILIES:
        raise header.error("model_type", f"supported: {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    architectures = header.get("architectures") or [family.architecture]
    if not isinstance(architectures, list) or family.architecture not in architectures:
        raise header.error("architectures", f"supported: {family.architecture}")
    quantization = header.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise refused(
            path, f"{quoted(method)} quantisation is not supported: use a GGUF or plain weights"
        )
    for key, meaning in UNSUPPORTED.items():
        # Phi-3 was published with its code; transformers has had the class itself since.
        if header.is_set(key) and not (kind == "phi3" and key == "auto_map"):
            raise header.error(key, f"{meaning}: not supported")
    if header.text("hidden_act", "silu") not in ("silu", "swish"):
        raise header.error("hidden_act", "only silu is supported")
    window = _window(header, kind)

    d_model, n_heads = header.count("hidden_size"), header.count("num_attention_heads")
    head_dim = header.count("head_dim", max(1, d_model // n_heads))
    if kind in ("qwen3", "glm"):
        head_dim = header.count("head_dim", 128)
    elif header.get("head_dim") is None and d_model % n_heads:
        raise header.error("num_attention_heads", f"hidden_size {d_model} is not a multiple of it")
    max_context = header.count("max_position_embeddings")
    # Llama and Qwen3 have one switch for four biases, GLM for three; Qwen2 always has three of
    # them, Mistral and Phi-3 none.
    biased = header.flag("attention_bias", False) if kind in ("llama", "qwen3") else False
    three = kind == "qwen2" or (kind == "glm" and header.flag("attention_bias", True))
    turned, theta, scaling = rotary(header, family, head_dim, max_context)
    config = LlamaConfig(
        d_model=d_model,
        n_layers=header.count("num_hidden_layers", maximum=MAX_LAYERS),
        n_heads=n_heads,
        # GLM's default is two.
        n_kv_heads=header.count("num_key_value_heads", None if kind == "glm" else n_heads),
        head_dim=head_dim,
        d_ffn=header.count("intermediate_size"),
        vocab=header.count("vocab_size"),
        tied=header.flag("tie_word_embeddings", False),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=header.number("rms_norm_eps"),
        turned_dim=turned if turned < head_dim else None,
        attention_bias=biased or three,
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


def _check_tied(head: Path, embedding: Path, names: Mapping[str, str]) -> None:
    """A tied model may store its head as well, if it is the embedding."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(head, framework="pt") as first:
            one = first.get_tensor(names["head"])
        with safe_open(embedding, framework="pt") as second:
            same = torch.equal(one, second.get_tensor(names["embedding"]))
    except (SafetensorError, OSError, MemoryError) as error:
        raise refused(head, f"cannot be read: {one_line(error)}") from None
    if not same:
        raise refused(head, "lm_head.weight differs from the embedding, yet config.json ties them")
