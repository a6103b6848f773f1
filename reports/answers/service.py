"""Cost at a service level: a million output tokens where every user gets so many a second.

A device that served the same work under several loads has a curve: the faster each user is served,
the fewer tokens the chip makes. Between two measured points the rate is interpolated on logarithms;
beyond the ends nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpubench.costs.price_files import published_owned
from tpubench.devices.sheets import devices
from tpubench.devices.vendors import is_tpu, label
from tpubench.reports.answers.settings import ReportSettings
from tpubench.reports.findings import Findings
from tpubench.reports.pairs import title
from tpubench.results.model_names import model_key
from tpubench.results.statistics import Estimate
from tpubench.results.summary import Summary, case_key

_TOKENS = 1e6
_SECONDS_PER_HOUR = 3600
_RATE = "output_tok_s_per_chip"
_WATTS_PER_MW = 1e6
_MUSD = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One device at one piece of serving work. Points are (tokens a second a user, output tokens a
    second a chip), slowest user first."""

    work: str
    device: str
    name: str
    tpu: bool
    dtype: str
    chips: int
    evidence: str
    points: tuple[tuple[float, float], ...]
    usd_per_chip_hour: float | None
    """At the default price; None where there is none."""
    power_usd: float
    """Part of it that is electricity, of an owned chip."""
    capex_usd: float | None
    """What one chip costs to own, with its share of the cluster; None where no figure is known."""
    chip_w: float | None
    """Board power of the data sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLevel:
    """A curve at the service level."""

    rate: float | None
    """Output tokens a second a chip; None where the level was not reached."""
    usd_per_mtok: float | None
    tok_s_per_mw: float | None
    """Of chips alone, at the board power of their data sheet."""
    tok_s_per_musd: float | None
    """Of a million dollars of capex."""
    how: str
    """``measured``, ``interpolated``, or why there is nothing."""


def curves(findings: Findings) -> list[Curve]:
    """Every curve with a pace for each user, those of the same work together."""
    paces = {(case_key(s.first), s.first.device): s.estimate for s in findings.of("tpot_s")}
    groups: dict[tuple[object, ...], list[tuple[Summary, Estimate]]] = {}
    for summary in findings.of(_RATE):
        row, params = summary.first, summary.params
        pace = paces.get((case_key(row), row.device))
        if pace is None or pace.point <= 0 or row.backend == "fake":
            continue
        lengths = str(params.get("input_len")), str(params.get("output_len"))
        key = (row.workload, model_key(row.preset), *lengths, row.dtype, row.device, row.chips)
        groups.setdefault((*key, row.evidence), []).append((summary, pace))
    measured = [_curve(group, findings) for group in groups.values()]
    return sorted(measured, key=lambda c: (c.work, c.dtype, not c.tpu, c.name, c.chips))


def _curve(group: Sequence[tuple[Summary, Estimate]], findings: Findings) -> Curve:
    first = group[0][0]
    row = first.first
    asked = findings.device_prices.get(row.device)
    sheet = devices().get(row.device)
    best: dict[float, float] = {}
    for summary, pace in group:
        if summary.estimate is not None:
            user = 1 / pace.point
            best[user] = max(best.get(user, 0.0), summary.estimate.point)
    return Curve(
        work=title(first),
        device=row.device,
        name=label(row.device),
        tpu=is_tpu(row.device),
        dtype=row.dtype,
        chips=row.chips,
        evidence=row.evidence,
        points=tuple(sorted(best.items())),
        usd_per_chip_hour=None if asked is None else asked.price.usd_per_chip_hour,
        power_usd=0.0 if asked is None else asked.price.power_usd,
        capex_usd=_capex(row.device, findings),
        chip_w=None if sheet is None else sheet.tdp_w,
    )


def _capex(device: str, findings: Findings) -> float | None:
    """The reader's own capex, the newest; else the published one."""
    mine = [p for p in findings.prices.values() if p.accelerator == device and p.owned is not None]
    chosen = max(mine, key=lambda p: p.as_of, default=published_owned().get(device))
    return None if chosen is None or chosen.owned is None else chosen.owned.capex_usd


def at_level(curve: Curve, settings: ReportSettings) -> AtLevel:
    """The most that the device makes where every user gets ``settings.slo`` tokens a second."""
    share = settings.readiness if curve.tpu else 1.0
    # A chip that does a share of its figure serves each user that much slower as well.
    rate, how = _rate([(pace * share, rate * share) for pace, rate in curve.points], settings.slo)
    if rate is None:
        return AtLevel(
            rate=None, usd_per_mtok=None, tok_s_per_mw=None, tok_s_per_musd=None, how=how
        )
    given, factors = dict(settings.given), dict(settings.factor)
    usd = curve.usd_per_chip_hour
    if usd is not None:
        usd += curve.power_usd * (settings.electricity - 1)
    usd = given.get(curve.device, usd)
    if usd is not None:
        usd *= settings.tpu_price if curve.tpu else settings.gpu_price
        usd *= factors.get(curve.device, 1.0)
    return AtLevel(
        rate=rate,
        usd_per_mtok=None if usd is None else usd * _TOKENS / (_SECONDS_PER_HOUR * rate),
        tok_s_per_mw=None if not curve.chip_w else rate / curve.chip_w * _WATTS_PER_MW,
        tok_s_per_musd=None if not curve.capex_usd else rate / curve.capex_usd * _MUSD,
        how=how,
    )


def _rate(points: Sequence[tuple[float, float]], level: float) -> tuple[float | None, str]:
    """The highest rate at ``level`` or faster, and whether it was measured."""
    fast = [point for point in points if point[0] >= level]
    if not fast:
        return None, f"not reached: {max(p for p, _ in points):.3g} tok/s a user at most"
    best = max(rate for _, rate in fast)
    slow = [point for point in points if point[0] < level]
    if slow:
        (x0, y0), (x1, y1) = slow[-1], fast[0]
        way = math.log(level / x0) / math.log(x1 / x0)
        between = y0 * (y1 / y0) ** way
        if between > best:
            return between, "interpolated"
    return best, "measured"


def record(measured: Sequence[Curve], settings: ReportSettings) -> list[Mapping[str, object]]:
    """Every curve and what it gives at the level, as JSON values."""
    listed: list[Mapping[str, object]] = []
    for curve in measured:
        at = at_level(curve, settings)
        listed.append(
            {
                "work": curve.work,
                "device": curve.device,
                "dtype": curve.dtype,
                "chips": curve.chips,
                "evidence": curve.evidence,
                "points": [list(point) for point in curve.points],
                "rate": at.rate,
                "usd_per_mtok": at.usd_per_mtok,
                "tok_s_per_mw": at.tok_s_per_mw,
                "tok_s_per_million_usd_of_capex": at.tok_s_per_musd,
                "how": at.how,
            }
        )
    return listed
