"""Checkpoints that anybody may have written: one line for each thing that is wrong."""

from __future__ import annotations

import copy
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tpubench.errors import UsageError
from tpubench.suite.workload import Weights
from tpubench.workloads._checkpoint import digest, read_config
from tpubench.workloads._tokenizer import child, read_tokenizer
from tpubench.workloads.llama.infer import LlamaInfer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from hostile.checkpoint import CONFIG, Base, good_folder, text  # noqa: E402

FOLDER = Callable[[Path], object]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(base: Base, tmp_path: Path) -> Path:
    return good_folder(base, tmp_path)


def sparse(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)


def replaced(make: FOLDER) -> FOLDER:
    """In place of what lies there."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def written(data: bytes) -> FOLDER:
    return lambda path: path.write_bytes(data)


ODD_JSON: dict[str, tuple[FOLDER, str]] = {
    "sparse": (sparse, r"it has 1,099,511,627,776 bytes, at most 16,777,216 are read"),
    "huge": (written(b'{"a": [' + b"[]," * 6_000_000 + b"[]]}"), "it has 18,000,011 bytes"),
    "a million deep": (written(b"[" * 1_000_000), "not valid JSON"),
    "a number of five million digits": (
        written(b'{"hidden_size": ' + b"9" * 5_000_000 + b"}"),
        "not valid JSON",
    ),
    "not UTF-8": (written(json.dumps(CONFIG).encode("utf-16")), "not valid JSON"),
    "empty": (written(b""), "not valid JSON"),
    "no object": (written(b"[]"), "does not hold a JSON object"),
    "a FIFO": (replaced(os.mkfifo), "it is a FIFO, not a file"),
    "a device": (replaced(lambda p: p.symlink_to("/dev/zero")), "it is a device, not a file"),
    "a folder": (replaced(Path.mkdir), "there is no"),
    "a dangling link": (replaced(lambda p: p.symlink_to("nowhere")), "there is no"),
}


@pytest.mark.parametrize("kind", ODD_JSON)
def test_an_odd_config_is_one_line(folder: Path, kind: str) -> None:
    make, reason = ODD_JSON[kind]
    make(folder / "config.json")
    assert refusal(folder, reason)


@pytest.mark.parametrize("kind", ODD_JSON)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_an_odd_tokenizer_is_one_line_or_none_that_matters(
    folder: Path, kind: str, name: str
) -> None:
    make, _ = ODD_JSON[kind]
    make(folder / name)
    absent = kind in {"a folder", "a dangling link"} and name == "tokenizer_config.json"
    if absent:
        assert child.encode_chat(folder, "ab") == [258]
        return
    with pytest.raises(UsageError) as error:
        child.encode_chat(folder, "ab")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to("/dev/zero")])
def test_weights_that_are_no_file_are_not_waited_for(folder: Path, make: FOLDER) -> None:
    (folder / "model.safetensors").unlink()
    make(folder / "model.safetensors")
    assert refusal(folder, "not a file")
    with pytest.raises(UsageError, match="not a file"):
        digest(folder)
    make(folder.parent / "model.gguf")
    assert refusal(folder.parent / "model.gguf", "not a file")


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b", "\ud800", "..", "../model.safetensors"])
def test_an_index_that_names_no_file_beside_it_is_one_line(folder: Path, name: str) -> None:
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refusal(folder, "is not in the folder")


def test_a_name_longer_than_a_file_system_takes_is_one_line() -> None:
    assert refusal(Path("x" * 300), "there is no such file or folder")


def test_a_safetensors_header_of_a_hundred_megabytes_is_not_parsed(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((100 << 20).to_bytes(8, "little") + b" " * (100 << 20))
    assert refusal(folder, "its header has 104,857,600 bytes")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((b"x", 9, struct.pack("<IQ", 0, 1 << 30)), "more than 4,194,304 elements"),
        ((b"x", 9, struct.pack("<IQ", 8, 1 << 30)), "more than 4,194,304 elements"),
        ((b"x", 9, struct.pack("<IQ", 0, 1 << 63)), "more than 4,194,304 elements"),
        ((b"x", 8, struct.pack("<Q", 1 << 30)), "header has more than 67,108,864 bytes"),
        ((b"x", 9, struct.pack("<IQ", 9, 1)), "array of unknown type 9"),
    ],
    ids=["a billion bytes", "a billion texts", "2^63", "a text of a gigabyte", "nested arrays"],
)
def test_lengths_in_a_gguf_are_bounded_though_the_file_has_the_bytes(
    base: Base, tmp_path: Path, value: tuple[bytes, int, bytes], reason: str
) -> None:
    file = copy.deepcopy(base.gguf)
    file.values.append(value)
    file.tensors = []
    path = tmp_path / "model.gguf"
    path.write_bytes(file.header())
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    assert refusal(path, reason)


@pytest.mark.parametrize("count", ["tensor_count", "value_count"])
def test_counts_in_a_gguf_are_bounded(base: Base, tmp_path: Path, count: str) -> None:
    file = copy.deepcopy(base.gguf)
    setattr(file, count, 1 << 32)
    path = tmp_path / "model.gguf"
    path.write_bytes(file.header())
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    assert refusal(path, "more than 4,194,304 elements")


@pytest.mark.parametrize("ids", [[{}], {"a": 1}, [[1]], 1.5, "x", True, None, [10**30]])
def test_stop_tokens_that_are_no_numbers_stop_nothing(folder: Path, ids: object) -> None:
    (folder / "config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert read_tokenizer(folder).decode([258, 99]) == "ab" + read_tokenizer(folder).decode([99])


TEMPLATES = {
    "runs for ever": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "takes more than 1 s",
    ),
    "fills the memory": ("{{ 'x' * 10**10 }}", "MemoryError"),
    "doubles a text": (
        "{% set ns = namespace(x='ab') %}"
        "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "MemoryError",
    ),
    "reaches out": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_chat_template_cannot_hang_or_fill_the_machine(
    base: Base, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, reason = TEMPLATES[kind]
    monkeypatch.setattr(child, "CPU_S", 1)
    file = copy.deepcopy(base.gguf)
    file.values[-1] = text("tokenizer.chat_template", template)
    path = tmp_path / "model.gguf"
    path.write_bytes(file.whole())
    with pytest.raises(UsageError, match=reason) as error:
        LlamaInfer().encode("hello", Weights(path=path))
    assert str(error.value).startswith(str(path))


def test_a_tokenizer_that_doubles_every_letter_forty_times_is_one_line(
    folder: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CPU_S", 2)
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    normalizer = {"type": "Sequence", "normalizers": [double] * 40}
    (folder / "tokenizer.json").write_text(json.dumps({**base.tokenizer, "normalizer": normalizer}))
    with pytest.raises(UsageError, match="crashes, or takes more than 2 s or 768 MiB"):
        LlamaInfer().encode("banana", Weights(path=folder))


def refusal(path: Path, reason: str) -> bool:
    """Whether the checkpoint is refused in one line that gives the reason."""
    with pytest.raises(UsageError, match=reason) as error:
        read_config(path)
    return str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.nightly)])
def test_mutated_checkpoints_are_refused_in_a_line_or_load(count: int) -> None:
    """Weights, digest and tokenizer, in child processes; see benchmarks/fuzz_reader.py."""
    script = str(BENCHMARKS / "fuzz_reader.py")
    done = subprocess.run(
        [sys.executable, script, "checkpoint", "--count", str(count), "--seed", "10000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, total, _ = done.stdout.splitlines()
    assert total.split()[:2] == ["all", str(count)]
