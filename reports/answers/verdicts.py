"""What a piece of work costs under the settings: each way to pay, the verdicts, what flips them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from tpubench.reports.answers import money
from tpubench.reports.answers.settings import ReportSettings
from tpubench.reports.answers.ways import Way
from tpubench.reports.answers.works import ComparedWork, Contender

TERMS = {"default": "on demand", "1y": "1-year contract", "3y": "3-year contract"}
"""What each verdict of a piece of work is about; the default is on demand or one's own price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayCost:
    """One way to pay for one contender, under the settings."""

    contender: int
    way: int
    device: str
    name: str
    vendor: str
    tpu: bool
    evidence: str
    label: str
    term: str
    usd_per_chip_hour: float
    usd_low: float
    usd_high: float
    """Ends of what providers ask this way, $/chip-hour."""
    cost: money.Cost
    margin: float | None
    """1 − cost ÷ price of a unit of work, where there is a price."""
    default: bool
    aside: bool
    """Shown, never the answer."""
    power_usd: float
    """Part of the $/chip-hour that is electricity."""
    every_hour: bool
    price_id: str
    age_days: int
    providers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairVerdict:
    """The cheapest TPU against the cheapest GPU at one term; a device that has no price of that
    term stands at its default one."""

    at: str
    tpu: int
    gpu: int
    """Indices into the ways of the work."""
    compared: money.CostRatio


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One input, all else as it is, at which TPU and GPU cost the same."""

    input: str
    now: float
    at: float
    tpu_wins: str
    """``above`` or ``below`` that value the TPU is the cheaper one."""
    device: str = ""
    now_usd: float | None = None
    at_usd: float | None = None
    """Of a factor on all prices of a side: what it makes of the deciding device's, $/chip-hour."""
    plausible: bool
    why: str
    """What the value is held against."""
    setting: str
    """The ``--set`` argument that goes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkAnswer:
    """One piece of work, answered."""

    work: ComparedWork
    ways: tuple[WayCost, ...]
    verdicts: tuple[PairVerdict, ...]
    flips: tuple[Flip, ...]
    ratio_range: tuple[float, float] | None
    """GPU ÷ TPU cost from the worst to the best that any list price makes of the deciding pair."""
    missing: str | None
    """Why there is no verdict."""
    today: dt.date
    """The day that its prices' ages are counted to."""


def answer_with(one: WorkAnswer, settings: ReportSettings) -> WorkAnswer:
    """The same piece of work under other settings."""
    return answer(one.work, settings, one.today)


def answer(work: ComparedWork, settings: ReportSettings, today: dt.date) -> WorkAnswer:
    """The work under ``settings``; ``today`` dates its prices."""
    ways = tuple(_ways(work, settings, today))
    verdicts = tuple(_verdicts(work, ways))
    missing = None
    if not verdicts:
        bare = [c.device for c in work.contenders if not any(w.device == c.device for w in ways)]
        missing = f"no price with the host for {' or '.join(dict.fromkeys(bare))}"
    first = verdicts[0] if verdicts else None
    return WorkAnswer(
        work=work,
        ways=ways,
        verdicts=verdicts,
        flips=() if first is None else tuple(_flips(work, ways, first, settings)),
        ratio_range=None if first is None else _range(ways, first),
        missing=missing,
        today=today,
    )


def _ways(work: ComparedWork, settings: ReportSettings, today: dt.date) -> Iterable[WayCost]:
    given, factors = dict(settings.given), dict(settings.factor)
    for number, contender in enumerate(work.contenders):
        factor = settings.tpu_price if contender.tpu else settings.gpu_price
        factor *= factors.get(contender.device, 1.0)
        listed = list(enumerate(contender.ways))
        if contender.device in given:
            way = _given(contender.device, given[contender.device], today)
            yield _cost(number, contender, -1, way, factor, settings, today, default=True)
            continue
        for index, way in listed:
            default = index == contender.default
            yield _cost(number, contender, index, way, factor, settings, today, default=default)


def _given(device: str, usd: float, today: dt.date) -> Way:
    return Way(
        device=device,
        label="as set",
        term="given",
        layer="negotiated",
        usd_per_chip_hour=usd,
        low=usd,
        high=usd,
        price_id="set",
        as_of=today,
        providers=1,
        every_hour=False,
    )


def _cost(
    number: int,
    contender: Contender,
    index: int,
    way: Way,
    factor: float,
    settings: ReportSettings,
    today: dt.date,
    *,
    default: bool,
) -> WayCost:
    share = settings.readiness if contender.tpu else 1.0
    if way.every_hour:
        share *= settings.utilisation
    power = way.power_usd * settings.electricity * factor
    dearer = way.power_usd * (settings.electricity - 1)
    usd = (way.usd_per_chip_hour + dearer) * factor
    ends = ((way.low + dearer) * factor, (way.high + dearer) * factor)
    cost = money.cost(usd, ends, contender.chip_hours, contender.spread, share)
    sold = settings.token_price
    return WayCost(
        contender=number,
        way=index,
        device=contender.device,
        name=contender.name,
        vendor=contender.vendor,
        tpu=contender.tpu,
        evidence=contender.evidence,
        label=way.label,
        term=way.term,
        usd_per_chip_hour=usd,
        usd_low=ends[0],
        usd_high=ends[1],
        cost=cost,
        margin=None if sold is None else 1 - cost.point / sold,
        default=default,
        aside=way.aside,
        power_usd=power,
        every_hour=way.every_hour,
        price_id=way.price_id,
        age_days=(today - way.as_of).days,
        providers=way.providers,
    )


def _verdicts(work: ComparedWork, ways: tuple[WayCost, ...]) -> Iterable[PairVerdict]:
    for term, at in TERMS.items():
        if term != "default" and not any(way.term == term for way in ways):
            continue
        best: dict[bool, int] = {}
        for number in range(len(work.contenders)):
            mine = [i for i, way in enumerate(ways) if way.contender == number]
            at_term = [i for i in mine if ways[i].term == term]
            chosen = at_term or [i for i in mine if ways[i].default]
            if not chosen:
                continue
            index = min(chosen, key=lambda i: ways[i].cost.point)
            side = ways[index].tpu
            if side not in best or ways[index].cost.point < ways[best[side]].cost.point:
                best[side] = index
        if len(best) < 2:
            continue
        yield PairVerdict(
            at=_at(ways, best) if term == "default" else at,
            tpu=best[True],
            gpu=best[False],
            compared=money.compare(ways[best[True]].cost, ways[best[False]].cost),
        )


def _at(ways: tuple[WayCost, ...], best: dict[bool, int]) -> str:
    """What the default prices are: on demand, unless they are the reader's own."""
    labels = dict.fromkeys(ways[best[side]].label for side in (True, False))
    return " and ".join(labels)


def _range(ways: tuple[WayCost, ...], verdict: PairVerdict) -> tuple[float, float]:
    tpu, gpu = ways[verdict.tpu], ways[verdict.gpu]
    ends = {
        side: [
            end
            for way in ways
            if way.contender == chosen.contender and not way.aside
            for end in (way.cost.price_low, way.cost.price_high)
        ]
        for side, chosen in (("tpu", tpu), ("gpu", gpu))
    }
    return min(ends["gpu"]) / max(ends["tpu"]), max(ends["gpu"]) / min(ends["tpu"])


def _flips(
    work: ComparedWork, ways: tuple[WayCost, ...], verdict: PairVerdict, settings: ReportSettings
) -> Iterable[Flip]:
    tpu, gpu = ways[verdict.tpu], ways[verdict.gpu]
    ratio = verdict.compared.ratio
    for way, path, now, at, wins in (
        (tpu, "price[tpu]", settings.tpu_price, settings.tpu_price * ratio, "below"),
        (gpu, "price[gpu]", settings.gpu_price, settings.gpu_price / ratio, "above"),
    ):
        usd = way.usd_per_chip_hour * at / now
        asked = [
            end
            for other in ways
            if other.contender == way.contender and not other.aside
            for end in (other.usd_per_chip_hour, other.usd_low, other.usd_high)
        ]
        span = f"${min(asked):.2f} to ${max(asked):.2f}"
        yield Flip(
            input=f"{'TPU' if way.tpu else 'GPU'} prices",
            now=now,
            at=at,
            tpu_wins=wins,
            device=way.name,
            now_usd=way.usd_per_chip_hour,
            at_usd=usd,
            plausible=min(asked) <= usd <= max(asked),
            why=f"it is asked at {span}" if min(asked) < max(asked) else f"one price: {span}",
            setting=f"{path}*={at:.6g}",
        )
    ready = settings.readiness / ratio
    yield Flip(
        input="readiness",
        now=settings.readiness,
        at=ready,
        tpu_wins="above",
        plausible=ready <= 1 + max(0.0, _doubt(work, tpu)),
        why="1 is the figure as it stands; above it would have to be beaten",
        setting=f"readiness={ready:.6g}",
    )
    for side, other, wins in ((True, gpu, "above"), (False, tpu, "below")):
        contracts = [w for w in ways if w.tpu is side and w.every_hour and not w.aside]
        if not contracts or other.every_hour:
            continue
        best = min(contracts, key=lambda w: w.cost.point)
        at = settings.utilisation * best.cost.point / other.cost.point
        yield Flip(
            input=f"utilisation of {best.name}, {best.label}, against {other.name}",
            now=settings.utilisation,
            at=at,
            tpu_wins=wins,
            plausible=at <= 1,
            why="a contract is paid for every hour, on demand only for those used",
            setting=f"utilisation={at:.6g}",
        )


def _doubt(work: ComparedWork, way: WayCost) -> float:
    contender = work.contenders[way.contender]
    return contender.high / contender.chip_hours - 1
