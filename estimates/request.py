"""What a user asks an estimate for, from words to values; shared by both methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from tpubench.devices import prices
from tpubench.devices.list_price import device_price
from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.precisions import PEAKS, PRECISIONS, named
from tpubench.devices.sheets import unknown
from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.workload import Workload

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "serving": {
        "batch": "1",
        "input_len": "1024",
        "output_len": "1024",
        "dtype": "bfloat16",
        "tensor": "0",
        "software": "pytorch",
    },
    "training": {
        "batch": "0",
        "seq_len": "8192",
        "dtype": "bfloat16",
        "software": "pytorch",
    },
}
"""Settings of an estimate of a decoder, and their defaults where its workload has none. ``tensor``
0 is all chips, ``batch`` 0 one sequence for each chip."""
_OURS = {"tensor", "software"}
"""Settings that no workload has: how it is spread, and on what."""

LARGEST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRequest:
    """An estimate as asked for."""

    workload: str
    preset: str
    device: str
    """Canonical name."""
    chips: int
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values as typed, several to compute the crossed cases."""
    price: prices.Price | None = None
    price_rule: str | None = None
    """By which rule the price was chosen; None for one that was named."""

    @property
    def kind(self) -> str:
        """What is estimated: serving or training of a decoder, or any other ``work``."""
        return kind(registry.workload(self.workload), self.preset)

    def cases(self) -> list[dict[str, int | str]]:
        """Settings of every case, defaults filled in; UsageError for what is not one."""
        workload = registry.workload(self.workload)
        if self.kind == "work":
            values = {name: list(each) for name, each in self.settings.items()}
            return [dict(c.params) for c in workload.cases(self.preset, values, accelerator=True)]
        known = _defaults(workload, self.kind)
        for name in self.settings:
            if name not in known:
                raise UsageError(
                    f"--set {name}: an estimate of {self.workload} has {', '.join(known)}"
                )
        chosen = {name: self.settings.get(name, (default,)) for name, default in known.items()}
        return [
            {k: _value(k, v, known[k]) for k, v in zip(chosen, values, strict=True)}
            for values in product(*chosen.values())
        ]


def kind(workload: Workload, preset: str) -> str:
    """serving or training for a decoder whose parameters say so; ``work`` for all else."""
    if workload.decoder(preset) is None:
        return "work"
    keys = set(workload.parameters)
    if workload.trains:
        return "training" if {"batch", "seq_len"} <= keys else "work"
    return "serving" if {"batch", "input_len", "output_len"} <= keys else "work"


def _defaults(workload: Workload, kind: str) -> dict[str, str]:
    """Settings of a kind; a training batch is given a chip, whatever a run's default."""
    own = {name: str(each.default) for name, each in workload.parameters.items()}
    return {
        name: default if name in _OURS or default == "0" else own.get(name, default)
        for name, default in SETTINGS[kind].items()
    }


def parse(
    *,
    workload: str,
    preset: str | None,
    device: str,
    chips: int | None,
    settings: Sequence[str],
    price: prices.Price | None,
    table: Mapping[str, prices.Price] | None = None,
) -> EstimateRequest:
    """The request behind the options of ``tpubench estimate``; UsageError for bad ones.

    Without a ``price`` the device's own in ``table`` is taken, by the rule of
    :mod:`tpubench.devices.list_price`.
    """
    chosen = registry.workload(workload)
    name = canonical(device) if len(device) < 80 else None
    if name is None:
        raise UsageError(unknown(device))
    of_slice = chips_in_slice(device)
    if chips is None:
        chips = of_slice or 1
    elif of_slice is not None and of_slice != chips:
        raise UsageError(f"--device {device} has {of_slice} chips, --chips says {chips}: drop one")
    if not 1 <= chips <= 1_000_000:
        raise UsageError(f"--chips {chips} is not between 1 and 1000000")
    asked = device_price(name, table) if price is None else None
    return EstimateRequest(
        workload=workload,
        preset=preset or chosen.default_preset(accelerator=True)[0],
        device=name,
        chips=chips,
        settings=_settings(settings),
        price=asked.price if asked else price,
        price_rule=asked.rule if asked else None,
    )


def _settings(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    settings: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise UsageError(f"--set {text!r}: write KEY=VALUE, e.g. --set batch=8")
        if name.strip() in settings:
            raise UsageError(
                f"--set {name.strip()} is given twice: write several values with commas"
            )
        settings[name.strip()] = tuple(value.strip() for value in values.split(","))
    return settings


def _value(name: str, text: str, default: str) -> int | str:
    if name == "software":
        return text[:80]
    if name == "dtype":
        dtype = named(text)
        if dtype is None or dtype not in PEAKS:
            choices = [name for name in PEAKS if name in PRECISIONS]
            raise UsageError(f"--set dtype={text[:40]}: choose {', '.join(choices)}")
        return dtype
    least = 0 if default == "0" else 1
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"--set {name}={text[:40]}: write a whole number") from None
    if not least <= value <= LARGEST:
        raise UsageError(f"--set {name}={value}: not between {least} and {LARGEST}")
    return value
