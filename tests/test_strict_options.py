"""Every option of every command: given twice it is a list or refused; an empty value is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from tpubench import cli
from tpubench.errors import UsageError

ROOT: Any = typer.main.get_command(cli.app)


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in ROOT.commands.items():
        for inner, nested in getattr(command, "commands", {}).items():
            yield (name, inner), nested
        if not hasattr(command, "commands"):
            yield (name,), command


OPTIONS = [
    pytest.param(path, option, id=f"{' '.join(path)} {option.opts[0]}")
    for path, command in every_command()
    for option in command.params
    if option.param_type_name == "option"
]
VALUES = [pytest.param(*each.values, id=each.id) for each in OPTIONS if not each.values[1].is_flag]
ARGUMENTS = [
    pytest.param(path, id=" ".join(path))
    for path, command in every_command()
    if any(each.param_type_name == "argument" for each in command.params)
]


def refusal(*arguments: str) -> str:
    with pytest.raises(Exception) as raised:
        ROOT.main(list(arguments), standalone_mode=False)
    return str(raised.value) if isinstance(raised.value, UsageError) else ""


@pytest.mark.parametrize(("path", "option"), VALUES)
def test_a_value_given_twice_is_a_list_or_an_error(path: tuple[str, ...], option: Any) -> None:
    name = max(option.opts, key=len)
    if not option.multiple:
        assert refusal(*path, name, "1", name, "2").startswith(f"{name} is given twice")


@pytest.mark.parametrize(("path", "option"), VALUES)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_an_error(path: tuple[str, ...], option: Any, value: str) -> None:
    name = max(option.opts, key=len)
    assert refusal(*path, name, value).startswith(f"{name} is empty")


@pytest.mark.parametrize("path", ARGUMENTS)
def test_an_empty_argument_is_an_error(path: tuple[str, ...]) -> None:
    assert "is empty" in refusal(*path, "")


def test_a_short_and_a_long_spelling_are_one_option() -> None:
    assert "--workload is given 3 times" in refusal(
        *("run", "-w", "gemm", "--workload", "hbm", "-w", "gemm")
    )


def test_a_flag_and_its_contrary_are_refused_and_a_flag_twice_is_not() -> None:
    ab = ("ab", "-w", "gemm", "--baseline", ".")
    assert "--confirm is given twice" in refusal(*ab, "--confirm", "--no-confirm")
    assert not ROOT.main(["list", "backends", "--json", "--json"], standalone_mode=False)


def test_help_shows_what_stands_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    ROOT.main(["verify", "--help"], standalone_mode=False)
    assert "[default: $TPUBENCH_STORE" in capsys.readouterr().out
