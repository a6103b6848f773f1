"""What a person means by ``column=value``: a device or a precision by any of its names."""

from __future__ import annotations

from collections.abc import Collection

from tpubench.devices.names import canonical, chips_in_slice, likeliest
from tpubench.devices.precisions import named
from tpubench.errors import UsageError

PRECISIONS = frozenset({"dtype", "weight_dtype", "kv_dtype"})
_WITHOUT_SHEET = frozenset({"cpu", "fake"})
"""Devices that rows may name and that no data sheet describes."""


def meant(column: str, value: str, stored: Collection[str]) -> str:
    """The value as rows have it. stored: the texts of that column in the rows at hand.

    A text that is stored is itself. UsageError for a device that nobody knows, or a name that
    leaves its variant open: an empty answer would be taken for a fact.
    """
    if value in stored:
        return value
    if column == "device":
        return _device(value, stored)
    if column in PRECISIONS:
        return named(value) or value
    if column == "workload":
        return value.replace("_", "-")
    return value


def chips(column: str, value: str) -> str | None:
    """Chips that a selector of a slice asks for (``device=v6e-8``); None where it names none."""
    count = chips_in_slice(value) if column == "device" else None
    return None if count is None else str(count)


def _device(value: str, stored: Collection[str]) -> str:
    device = canonical(value)
    if device is None and value.lower() in _WITHOUT_SHEET:
        device = value.lower()
    if device is None and stored:
        likely = likeliest(value)
        perhaps = f", perhaps {likely.device}" if likely else ""
        here = ", ".join(sorted(stored)[:8])
        raise UsageError(
            f"{value[:80]!r} names no device, or leaves its variant open{perhaps}; here: {here}"
        )
    return device or value
