"""A run written down: every option and parameter, checked, and overruled by the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tpubench import cli
from tpubench.errors import UsageError
from tpubench.suite.run_file import RunFile, with_file

OPTIONS: Any = typer.main.get_command(cli.app).commands["run"].params  # type: ignore[attr-defined]
SILENT = {option.name: None for option in OPTIONS if option.name not in {"file", "help"}}


def combined(tmp_path: Path, text: str, **said: Any) -> dict[str, Any]:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return with_file(path, {**SILENT, **said})


def test_every_option_of_run_is_a_key() -> None:
    keys = {field.alias or name for name, field in RunFile.model_fields.items()}
    options = {max(o.opts, key=len) for o in OPTIONS if o.param_type_name == "option"}
    assert keys == {option.removeprefix("--").replace("-", "_") for option in options - {"--help"}}


def test_a_file_says_all_that_options_say(tmp_path: Path) -> None:
    options = combined(
        tmp_path,
        'workload = "llama-infer"\nbackend = "fake"\nrepeats = 2\nprompt_ids = [5, 6]\n'
        'timeout = 60\nweights = "model"\nstore = "../facts"\nprices = ["mine.toml"]\n'
        'python = "python3"\n[set]\nbatch = [1, 8]\ndtype = "float32"\n',
    )
    assert (options["workload"], options["backend"], options["repeats"]) == (
        "llama-infer",
        "fake",
        2,
    )
    assert options["settings"] == ["batch=1,8", "dtype=float32"]
    assert (options["prompt_ids"], options["timeout"]) == ("5,6", 60.0)
    assert options["weights"] == tmp_path / "model"  # as seen from the file
    assert options["store"] == tmp_path / "../facts"
    assert options["prices"] == [tmp_path / "mine.toml"]
    assert options["python"] == Path("python3")  # a bare name is one of the PATH
    assert options["seed"] is None


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    text = (
        'workload = "gemm"\nrepeats = 2\nprompt_ids = [1]\nprice = "a"\npreset = "tiny"\n'
        "seed = 1\n[set]\nm = 4\nn = 8\n"
    )
    options = combined(
        *(tmp_path, text),
        repeats=5,
        prompt="hello",
        usd_per_chip_hour=1.5,
        weights=Path("w"),
        settings=["m=16", "seed=3"],
    )
    assert (options["workload"], options["repeats"]) == ("gemm", 5)
    assert options["settings"] == ["n=8", "m=16", "seed=3"]
    assert (options["prompt"], options["prompt_ids"]) == ("hello", None)
    assert (options["usd_per_chip_hour"], options["price"]) == (1.5, None)
    assert (options["weights"], options["preset"]) == (Path("w"), None)
    assert options["seed"] is None
    assert combined(tmp_path, "[set]\nseed = 1\n", seed=2)["settings"] == []
    assert combined(tmp_path, "seed = 1\nrepeats = 3\n", seed=0, repeats=0)["seed"] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("batch = 1\n", "batch: there is no such key"),
        ("workload = 3\n", "workload: Input should be a valid string"),
        ("repeats = true\n", "repeats: "),
        ("timeout = nan\n", "timeout: "),
        ("prompt_ids = []\n", "prompt_ids: "),
        ('store = ""\n', "store is empty"),
        ("[set]\nbatch = {}\n", "set.batch"),
        ("[set]\nbatch = []\n", "set.batch"),
        ("workload = \n", "not valid TOML"),
    ],
)
def test_nonsense_is_one_line_with_file_and_key(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=r"run\.toml") as raised:
        combined(tmp_path, text)
    assert reason in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe.toml", "folder.toml"):
        with pytest.raises(UsageError, match="is not a file"):
            with_file(tmp_path / name, SILENT)


def test_a_name_that_is_no_file_leads_to_the_option() -> None:
    with pytest.raises(UsageError, match="--workload gemm"):
        with_file(Path("gemm"), SILENT)
    with pytest.raises(UsageError, match=r"cannot read nowhere.toml"):
        with_file(Path("nowhere.toml"), SILENT)
