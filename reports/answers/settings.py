"""What a reader may turn on the first screen, in the page by sliders, elsewhere by ``--set``.

A setting is ``PATH=VALUE`` or ``PATH*=FACTOR``; the paths are those of a plan where both have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpubench.devices.names import canonical
from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Ends of one slider and what it turns, for the reader."""

    path: str
    label: str
    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """All at their neutral value: prices as listed, every hour used, full readiness."""

    tpu_price: float = 1.0
    """Factor on every price of every TPU."""
    gpu_price: float = 1.0
    """Factor on every price of every GPU."""
    utilisation: float = 1.0
    """Share of the hours that have work. On demand, only those are paid; a contract and an owned
    chip are paid for all of them."""
    readiness: float = 1.0
    """Share of its figure that the reader's own software gets from a TPU."""
    electricity: float = 1.0
    """Factor on what owned chips pay for electricity; in a rent it is the landlord's."""
    token_price: float | None = None
    """US dollars that a unit of work (a million tokens, …) is sold for."""
    slo: float = 30.0
    """Output tokens a second that each user is to get, where a cost at a service level is asked."""
    given: tuple[tuple[str, float], ...] = ()
    """Price of one device in place of all its own, US dollars per chip-hour."""
    factor: tuple[tuple[str, float], ...] = ()
    """Factor on every price of one device."""

    def record(self) -> dict[str, float | None]:
        """As ``--set`` names them."""
        named: dict[str, float | None] = {path: getattr(self, name) for path, name in _PATHS}
        named |= {f"price[{device}]": usd for device, usd in self.given}
        return named | {f"price[{device}]*": times for device, times in self.factor}


_PATHS = (
    ("price[tpu]*", "tpu_price"),
    ("price[gpu]*", "gpu_price"),
    ("utilisation", "utilisation"),
    ("readiness", "readiness"),
    ("electricity*", "electricity"),
    ("token_price", "token_price"),
    ("slo", "slo"),
)
RANGES = (
    Range(path="price[tpu]*", label="TPU price", low=0.2, high=2.0, step=0.01),
    Range(path="price[gpu]*", label="GPU price", low=0.2, high=2.0, step=0.01),
    Range(path="utilisation", label="Utilisation", low=0.1, high=1.0, step=0.01),
    Range(path="readiness", label="TPU readiness", low=0.1, high=1.5, step=0.01),
    Range(path="electricity*", label="Electricity, owned", low=0.2, high=3.0, step=0.01),
)
"""The sliders of the page; the command line takes any positive number."""

_LARGEST = 1e6
_FORMS = (
    "'price[tpu]*=F', 'price[gpu]*=F', 'price[DEVICE]*=F', price[DEVICE]=USD, utilisation=U,"
    " readiness=R, 'electricity*=F', token_price=USD, slo=TOK_S"
)


def parse(arguments: Sequence[str]) -> ReportSettings:
    """The settings of several ``--set`` arguments, the last one of a path winning.

    UsageError naming the argument that is no setting of a report.
    """
    turned: dict[str, float] = {}
    given: dict[str, float] = {}
    factor: dict[str, float] = {}
    names = dict(_PATHS)
    for text in arguments:
        left, _, right = text.partition("=")
        path = "".join(left.split())
        if path in names:
            value = _number(text, right)
            if path == "utilisation" and value > 1:
                raise UsageError(f"--set {text!r}: utilisation is above 0 and at most 1")
            turned[names[path]] = value
        else:
            (factor if path.endswith("*") else given)[_device(text, path)] = _number(text, right)
    return ReportSettings(
        given=tuple(sorted(given.items())),
        factor=tuple(sorted(factor.items())),
        tpu_price=turned.get("tpu_price", 1.0),
        gpu_price=turned.get("gpu_price", 1.0),
        utilisation=turned.get("utilisation", 1.0),
        readiness=turned.get("readiness", 1.0),
        electricity=turned.get("electricity", 1.0),
        token_price=turned.get("token_price"),
        slo=turned.get("slo", ReportSettings().slo),
    )


def _number(text: str, right: str) -> float:
    try:
        value = float(right)
    except ValueError:
        raise UsageError(f"--set {text!r}: {right!r} is no number; write one of {_FORMS}") from None
    if not 0 < value <= _LARGEST:
        raise UsageError(f"--set {text!r}: must be above 0 and at most {_LARGEST:g}")
    return value


def _device(text: str, path: str) -> str:
    inner = path.removesuffix("*")
    if inner.startswith("price[") and inner.endswith("]"):
        name = canonical(inner[6:-1])
        if name is not None:
            return name
    raise UsageError(f"--set {text!r}: no setting of a report; there are {_FORMS}")
