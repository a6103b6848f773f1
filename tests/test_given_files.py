"""Files that a user hands over, when they are none: one line, and nothing is waited for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tpubench import cli

COMMANDS = {
    "plan": ("allocate", "FILE"),
    "prices": ("price", "list", "--prices", "FILE"),
    "policy": ("gate", "--baseline", "release", "--policy", "FILE"),
    "published table": ("estimate", "--validate", "FILE"),
    "result": ("import", "auto", "FILE", "--dry-run"),
    "catalogue": ("price", "import", "skypilot", "FILE"),
}


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


ODDITIES: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a terabyte of nothing": sparse,
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.fixture
def alarm() -> Iterator[None]:
    """Whoever opens a FIFO waits for ever; here for two minutes."""

    def ring(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("what", COMMANDS)
def test_what_is_no_file_is_one_line(
    what: str,
    oddity: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("vms.csv" if what == "catalogue" else "odd.json")
    ODDITIES[oddity](path)
    command = [str(path) if word == "FILE" else word for word in COMMANDS[what]]
    monkeypatch.setattr(sys, "argv", ["tpubench", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    *_, line = shown.err.splitlines()
    assert line.startswith("tpubench: error: ")
    assert "Traceback" not in shown.err
    assert path.name in line
