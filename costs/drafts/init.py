"""From stored facts to a plan: what is known is written, what nobody knows is asked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpubench.costs.allocation.plan import read_plan
from tpubench.costs.drafts import toml
from tpubench.costs.drafts.questions import Facts, Question, answered
from tpubench.costs.drafts.works import DraftWork, find_works
from tpubench.costs.owned import Owned
from tpubench.devices.list_price import middle, newest_of_each_provider
from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.results.row import Row

MOST_WORKS = 20
"""Beyond which a draft asks to be narrowed: every work is three questions."""
TERMS = {"1y": 1, "3y": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """What was written and what is still to be said."""

    path: str
    works: list[str]
    accelerators: list[str]
    throughputs: dict[str, int]
    """How many, by evidence."""
    placeholders: list[str]
    left_out: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOptions:
    """What the command line says of a draft."""

    rows: Sequence[Row]
    stored: set[str]
    """Runs that the store holds."""
    metric: str
    max_ttft_s: float | None
    max_tpot_s: float | None
    prices: Mapping[str, Price]
    owned: Mapping[str, tuple[Price, Owned]]
    """One's own [[owned]] prices, by accelerator: they answer what they know."""
    answers: Mapping[str, str]
    """By path, as typed."""
    ask: Callable[[Question, str], str] | None
    """Puts one question to a person; None where nobody can be asked."""
    placeholders: bool
    """Whether questions without an answer get theirs."""
    today: dt.date


def init(asked: DraftOptions, path: Path) -> Drafted:
    """Write a plan to ``path`` that ``allocate`` takes, and say what it is made of.

    UsageError when no row gives a rate of a chip, none of the chips can be had at any price, or
    figures are missing that nobody may be asked for.
    """
    works, left_out = find_works(asked.rows, asked.metric, asked.max_ttft_s, asked.max_tpot_s)
    if not works:
        why = f": {left_out[0]}" if left_out else ""
        raise UsageError(f"no stored row has {asked.metric} of an accelerator{why}")
    if len(works) > MOST_WORKS:
        names = "; ".join(work.name for work in works[:5])
        raise UsageError(
            f"these rows are of {len(works)} pieces of work, at most {MOST_WORKS} are planned for:"
            f" narrow them with selectors such as preset=… or device=…; there are {names} …"
        )
    facts = replace(_facts(works, asked.prices), owned=asked.owned)
    own = {path: repr(value) for path, (value, _) in facts.own_answers().items()}
    answers, unanswered = answered(facts, own | dict(asked.answers), asked.ask)
    missing = [q for q in unanswered if q.placeholder is not None]
    if missing and asked.ask is None and not asked.placeholders:
        raise UsageError(
            f"nobody said {', '.join(q.path for q in missing)}: give each with --set PATH=VALUE, or"
            " --yes for placeholders that are marked as such"
        )
    facts, gone = _to_be_had(facts, answers)
    left_out += gone
    query = {
        key: value
        for key, value in (
            ("metric", asked.metric),
            ("max_ttft_s", asked.max_ttft_s),
            ("max_tpot_s", asked.max_tpot_s),
        )
        if value is not None
    }
    content, kept = toml.write(
        facts, answers, unanswered, query, asked.stored, asked.today, left_out, set(asked.answers)
    )
    toml.save(path, content)
    read_plan(path)
    counts: dict[str, int] = {}
    for work in facts.works:
        for speed in work.speeds:
            kind = speed.summary.first.evidence
            counts[kind] = counts.get(kind, 0) + 1
    return Drafted(
        path=str(path),
        works=[work.name for work in facts.works],
        accelerators=facts.chips,
        throughputs=counts,
        placeholders=kept,
        left_out=left_out,
    )


def _facts(works: list[DraftWork], prices: Mapping[str, Price]) -> Facts:
    chips = {speed.device for work in works for speed in work.speeds}
    sold: dict[tuple[str, str], list[Price]] = {}
    for price in prices.values():
        if price.includes_host and not price.suspect and price.layer != "owned":
            sold.setdefault((price.accelerator, price.term), []).append(price)
    return Facts(
        works=works,
        rents={chip: _chosen(sold.get((chip, "on_demand"), [])) for chip in chips},
        commits={
            chip: {
                years: offer
                for term, years in TERMS.items()
                if (offer := _chosen(sold.get((chip, term), []))) is not None
            }
            for chip in chips
        },
    )


def _chosen(offers: list[Price]) -> Price | None:
    """One's own price first; of list prices the middle one of the providers, as everywhere."""
    own = [price for price in offers if price.layer == "negotiated"]
    if not offers:
        return None
    return middle(newest_of_each_provider(own or offers))


def _to_be_had(facts: Facts, answers: Mapping[str, float]) -> tuple[Facts, list[str]]:
    """Without the chips that nobody sells or rents out, and the works that are left without any."""
    gone = {
        chip
        for chip in facts.chips
        if facts.rents[chip] is None
        and not facts.commits[chip]
        and f"accelerator[{chip}].rent.usd_per_chip_hour" not in answers
        and f"accelerator[{chip}].buy.capex_usd" not in answers
    }
    if not gone:
        return facts, []
    works, dropped = [], []
    for work in facts.works:
        speeds = tuple(speed for speed in work.speeds if speed.device not in gone)
        if speeds:
            works.append(DraftWork(name=work.name, speeds=speeds))
        else:
            dropped.append(f"{work.name}: none of its chips has a price")
    left_out = [f"{chip}: no price is known, and none was given" for chip in sorted(gone)] + dropped
    if not works:
        raise UsageError(
            f"no price is known of {', '.join(sorted(gone))}: give one with"
            f" --set 'accelerator[{min(gone)}].rent.usd_per_chip_hour=…'"
        )
    return replace(facts, works=works), left_out
