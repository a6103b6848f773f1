"""Hugging Face folders with one thing changed."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from hostile.checkpoint import CONFIG, TEMPLATE, Base, good_folder, text
from hostile.disturbed import HOSTILE, disturbed_bytes, disturbed_tree, dumped, odd_json

TEMPLATES = (
    TEMPLATE,
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'x'|center(3000000000) }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}{{ ns.x|length }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ raise_exception('\x1b[31mno') }}",
    "{% include '/etc/passwd' %}",
    "{{ ",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'a' * 1000000 }}" * 3,
    "{{" * 20000,
    "{% if 1 %}" * 3000,
    "{{ range(100000)|list|length }}" * 100,
    "{{ lipsum(n=100000) }}",
    "{{ dict(a=1).update }}",
    "\x00\x1b[31m\ud800",
)


def hf_bytes(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    name = rng.choice(["model.safetensors", "config.json", "tokenizer.json"])
    (path / name).write_bytes(disturbed_bytes((path / name).read_bytes(), rng))
    return path


def safetensors_header(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    size = int.from_bytes(base.safetensors[:8], "little")
    header = json.loads(base.safetensors[8 : 8 + size])
    data = base.safetensors[8 + size :]
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(list(header))
        entry = header[name]
        how = rng.randrange(9)
        if how < 3 and not isinstance(entry, dict):
            how = 6
        if how == 0:
            near = (0, -1, 1, len(data), len(data) + 1, 2**63 - 1, 2**64 - 1, 2**64, 1.5, None)
            entry["data_offsets"] = [rng.choice(near), rng.choice(near)]
        elif how == 1:
            odd: tuple[Any, ...] = (
                [],
                [0],
                [-1],
                [2**63, 2**63],
                [2**32, 2**32],
                [1] * 10_000,
                [32, 0],
                [1.5],
                7,
            )
            entry["shape"] = rng.choice(odd)
        elif how == 2:
            entry["dtype"] = rng.choice(["F16", "F64", "I8", "BOOL", "F4", "", "x", None, 3])
        elif how == 3:
            header[rng.choice(["x", "", "\x1b[31m", "\ud800", "y" * 10_000])] = entry
        elif how == 4:
            del header[name]
        elif how == 5:
            header["__metadata__"] = rng.choice([None, 3, {"format": 3}, {"a": "x" * 10**6}, []])
        elif how == 6:
            header[name] = rng.choice(HOSTILE)
        elif how == 7:
            many = {f"t{i}": entry for i in range(rng.choice([1000, 30_000]))}
            header.update(many)
        else:
            header = disturbed_tree(header, rng)
            if not isinstance(header, dict) or not header:
                break
    raw = dumped(header)
    larger = [raw + b" " * 1000, raw + b" " * (120 << 20), b"[" * 1_000_000]
    raw = rng.choice(larger) if rng.random() < 0.3 else raw
    length = rng.choice([len(raw)] * 8 + [0, 2, len(raw) + 1, 2**31, 2**63, 2**64 - 1])
    with (path / "model.safetensors").open("wb") as stream:
        stream.write(length.to_bytes(8, "little") + raw + data)
        if rng.random() < 0.1:
            stream.truncate(1 << 40)
    return path


def config_values(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    more = ("rope_scaling", "rope_parameters", "quantization_config", "layer_types", "head_dim")
    config = dict(CONFIG)
    for _ in range(rng.randint(1, 3)):
        config[rng.choice([*CONFIG, *more, "sliding_window", "hidden_act"])] = rng.choice(HOSTILE)
    if rng.random() < 0.3:
        config = disturbed_tree(config, rng)
    (path / "config.json").write_bytes(dumped(config))
    return path


def odd_file(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    names += ["generation_config.json", "chat_template.jinja", "model.safetensors.index.json"]
    odd_json(path / rng.choice(names), rng)
    return path


def index(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    (path / "model.safetensors").rename(path / "model-00001.safetensors")
    shards = ["model-00001.safetensors"] * 5
    shards += ["../model.safetensors", "/etc/passwd", "", ".", "x" * 300, "a\x00b", "\ud800"]
    weight_map: Any = {name: rng.choice(shards) for name in base.tensors}
    document: Any = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    if rng.random() < 0.5:
        document = disturbed_tree(document, rng)
    (path / "model.safetensors.index.json").write_bytes(dumped(document))
    if rng.random() < 0.2:
        (path / "model-00002.safetensors").write_bytes(base.safetensors)
    return path


def tokenizer(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    document = disturbed_tree(base.tokenizer, rng)
    if rng.random() < 0.4 and isinstance(document, dict):
        growing = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40
        document["normalizer"] = rng.choice(
            [
                {"type": "Sequence", "normalizers": growing},
                {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
                {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
                {"type": "Prepend", "prepend": "a" * 10_000_000},
                {"type": "Sequence", "normalizers": [{"type": "Lowercase"}] * 100_000},
            ]
        )
    (path / "tokenizer.json").write_bytes(dumped(document))
    return path


def tokenizer_config(base: Base, folder: Path, rng: random.Random) -> Path:
    path = good_folder(base, folder)
    keys = ("bos_token", "eos_token", "add_bos_token", "chat_template", "unk_token")
    special: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>"}
    for _ in range(rng.randint(1, 3)):
        words = [*HOSTILE, "<s>", "$A", "$B:1", "a:b", " ", {"content": "<s>"}, {"content": 3}]
        special[rng.choice(keys)] = rng.choice([*words, *TEMPLATES])
    (path / "tokenizer_config.json").write_bytes(dumped(special))
    if rng.random() < 0.3:
        (path / "generation_config.json").write_bytes(dumped({"eos_token_id": rng.choice(HOSTILE)}))
    return path


def template(base: Base, folder: Path, rng: random.Random) -> Path:
    hostile = rng.choice(TEMPLATES)
    if rng.random() < 0.3:
        file = copy.deepcopy(base.gguf)
        file.values[-1] = text("tokenizer.chat_template", hostile)
        path = folder / "model.gguf"
        path.write_bytes(file.whole())
        return path
    path = good_folder(base, folder)
    raw = hostile.encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        (path / "chat_template.jinja").write_bytes(raw)
    else:
        special = {"bos_token": "<s>", "chat_template": [{"name": "default", "template": hostile}]}
        (path / "tokenizer_config.json").write_bytes(dumped(special))
    return path
