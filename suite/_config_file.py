"""The shape of the configuration file; apart, so that only who has one loads the checker."""

from __future__ import annotations

from pydantic import Field

from tpubench.costs.userfile import Checked
from tpubench.costs.userfile import read_toml as read_toml


class BackendEntry(Checked):
    """What is said of one backend."""

    python: str = Field(min_length=1)
    """Interpreter of its children, relative to the file."""


class ConfigFile(Checked):
    """The whole file."""

    backends: dict[str, BackendEntry] = Field(default_factory=dict)
