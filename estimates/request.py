"""What a user asks an estimate for, from words to values; shared by both methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from tpubench.devices import prices
from tpubench.devices.list_price import device_price
from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.precisions import PEAKS, PRECISIONS, named
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "llama-infer": {
        "batch": "1",
        "input_len": "1024",
        "output_len": "1024",
        "dtype": "bfloat16",
        "tensor": "0",
        "software": "pytorch",
    },
    "llama-pretrain": {
        "batch": "0",
        "seq_len": "8192",
        "dtype": "bfloat16",
        "software": "pytorch",
    },
}
"""Settings of each modelled workload with their defaults. ``tensor`` 0 is all chips, ``batch`` 0
one sequence for each chip."""

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

    def cases(self) -> list[dict[str, int | str]]:
        """Settings of every case, defaults filled in; UsageError for what is not one."""
        known = SETTINGS[self.workload]
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


def parse(
    *,
    workload: str,
    preset: str,
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
    if workload not in SETTINGS:
        raise UsageError(f"there is no estimate of {workload!r}; there is of {', '.join(SETTINGS)}")
    name = canonical(device) if len(device) < 80 else None
    if name is None:
        raise UsageError(f"unknown device {device[:60]!r}; known: {', '.join(devices())}")
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
        preset=preset,
        device=name,
        chips=chips,
        settings=_settings(settings),
        price=asked.price if asked else price,
        price_rule=asked.rule if asked else None,
    )


def _settings(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise UsageError(f"--set {text!r}: write KEY=VALUE, e.g. --set batch=8")
        if name.strip() in found:
            raise UsageError(
                f"--set {name.strip()} is given twice: write several values with commas"
            )
        found[name.strip()] = tuple(value.strip() for value in values.split(","))
    return found


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
