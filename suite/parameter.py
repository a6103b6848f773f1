"""A parameter of a workload: what ``--set`` takes."""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.devices.precisions import named
from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A ``--set`` key: its type, default, least value and meaning."""

    default: int | str
    doc: str
    minimum: int | None = None
    choices: tuple[str, ...] | None = None

    def parse(self, key: str, text: str) -> int | str:
        """The value of ``text``; UsageError naming the key when it does not fit."""
        if self.choices is not None:
            value = named(text) or text
            if value not in self.choices:
                raise UsageError(f"{key}={text!r} is not one of {', '.join(self.choices)}")
            return value
        try:
            number = int(text)
        except ValueError:
            raise UsageError(f"{key}={text!r} is not a whole number") from None
        if self.minimum is not None and number < self.minimum:
            raise UsageError(f"{key}={number} is below {self.minimum}")
        if number > 2**62:
            raise UsageError(f"{key}={text} is too large")
        return number
