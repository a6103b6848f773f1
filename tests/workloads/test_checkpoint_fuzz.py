"""Mutated checkpoints load or are refused in one line, and nothing else happens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import (
    SMALL,
    edit_json,
    loaded,
    random_model,
    save,
    write_gguf,
)

from tpubench.errors import UsageError
from tpubench.workloads._tokenizer import read_tokenizer


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good")
    save(path, **SMALL)
    return path


FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCALARS = (None, True, False, 0, -1, 1, 2, 10**30, 1.5, float("nan"), float("inf"), "", "x")
OBJECTS = ([], [1], {}, {"rope_type": "linear"}, {"quant_method": 3})
HOSTILE = st.sampled_from([*SCALARS, *OBJECTS])


def load_or_refuse(path: Path) -> None:
    try:
        loaded(path)
    except UsageError as error:
        assert "\n" not in str(error)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flips some bytes, most of them near the start, where headers are; perhaps cuts the end."""
    flips = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4))
    keep = draw(st.one_of(st.just(1.0), st.floats(0, 1)))
    reach = draw(st.sampled_from([64, 2048, 10**9]))

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        for where, byte in flips:
            changed[int(where * (min(len(changed), reach) - 1))] = byte
        return bytes(changed[: int(len(changed) * keep)])

    return damage


@pytest.fixture(scope="module")
def good_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GGUF with a tokenizer and a chat template."""
    path = tmp_path_factory.mktemp("good") / "good.gguf"
    letters = [chr(c) for c in range(97, 97 + 14)]
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*letters, "ab", "<s>", "</s>"],
        "tokenizer.ggml.token_type": [1] * 15 + [3, 3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 15,
        "tokenizer.ggml.eos_token_id": 16,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    write_gguf(path, random_model(**SMALL), keys=keys)
    return path


@FUZZ
@given(damage=damages())
def test_fuzzed_safetensors(
    damage: Callable[[bytes], bytes], good_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(good_folder / "config.json", tmp_path / "config.json")
    data = (good_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(damage(data))
    load_or_refuse(tmp_path)


@FUZZ
@given(damage=damages())
def test_fuzzed_gguf(damage: Callable[[bytes], bytes], good_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(damage(good_gguf.read_bytes()))
    load_or_refuse(path)
    try:
        tokenizer = read_tokenizer(path)
        tokenizer.decode(tokenizer.encode_chat("abc <s>"))
    except UsageError as error:
        assert "\n" not in str(error)


@FUZZ
@given(data=st.data())
def test_fuzzed_config(data: st.DataObject, good_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(good_folder, tmp_path, dirs_exist_ok=True)
    values = json.loads((good_folder / "config.json").read_text())
    keys = [*values, "rope_scaling", "quantization_config", "layer_types", "sliding_window"]
    changes = data.draw(st.dictionaries(st.sampled_from(keys), HOSTILE, min_size=1, max_size=2))
    edit_json(tmp_path / "config.json", **changes)
    load_or_refuse(tmp_path)
