"""``tpubench …`` in this process, as a user types it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tpubench import cli


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The document of a command that said nothing else."""
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)

    def error(self, code: int) -> str:
        """The one line of a command that failed so, and printed nothing."""
        assert (self.code, self.out) == (code, ""), self
        (line,) = self.err.strip().splitlines()
        assert line.startswith("tpubench: error: "), line
        return line.removeprefix("tpubench: error: ")


Call = Callable[..., Done]


def caller(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """What runs a command and catches its exit code and both outputs."""

    def call(*arguments: str) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tpubench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return call
