"""The commented TOML of a draft: every figure with where it is from, every placeholder named."""

from __future__ import annotations

import datetime as dt
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from tpubench.costs.allocation.plan import FromStore
from tpubench.costs.drafts.questions import Answers, Facts, Question
from tpubench.costs.drafts.works import ChipSpeed, DraftWork, case_words
from tpubench.costs.owned import Owned
from tpubench.devices.prices import Price
from tpubench.devices.sheets import devices
from tpubench.results.plain_text import one_line
from tpubench.results.statistics import Estimate

NO_LIMIT = 1_000_000_000
"""Written where nobody said how many chips can be had."""
OTHERS_SHOWN = 3
SOURCE_MOST = 100
"""Characters of a source in a plan."""
COMMENT_WIDTH = 96


class Draft:
    """The lines of one file. ``kept`` are paths of placeholders that were written."""

    def __init__(
        self,
        answers: Answers,
        unanswered: Sequence[Question],
        today: dt.date,
        origins: Mapping[str, str],
    ) -> None:
        self.answers = answers
        self.origins = origins
        self.unanswered = {question.path: question for question in unanswered}
        self.today = today
        self.lines: list[str] = []
        self.kept: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += lines

    def comment(self, text: str) -> None:
        """A remark on lines of its own."""
        self.lines += [f"# {line}" for line in textwrap.wrap(one_line(text), COMMENT_WIDTH)]

    def value(self, path: str) -> float | None:
        """The answer, or the placeholder."""
        return self.answers[path] if path in self.answers else self.unanswered[path].placeholder

    def figure(self, path: str, *, whole: bool = False) -> bool:
        """The line of a question's figure: the answer, or the placeholder, marked; False where
        nobody answered and it may be left out."""
        key = path.rpartition(".")[2]
        if path in self.answers:
            value = number(self.answers[path], whole=whole)
            self.add(f"{key} = {value}  # {self.origins.get(path, 'given')}")
            return True
        question = self.unanswered[path]
        if question.placeholder is None:
            return False
        why = f" ({question.why})" if question.why else ""
        guess = number(question.placeholder, whole=whole)
        self.add(f"{key} = {guess}  # PLACEHOLDER{why}: {question.asks}")
        self.kept.append(path)
        return True


def number(value: float, *, whole: bool = False) -> str:
    """A TOML number of the kind that the key takes."""
    return str(int(value)) if whole else repr(float(value))


def text(value: str) -> str:
    """A TOML string."""
    return json.dumps(one_line(value), ensure_ascii=False)


def key_value(key: str, value: object) -> str | None:
    """``key = value`` of an inline table; None where TOML has no such value."""
    if value is None:
        return None
    name = key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key)
    if isinstance(value, str):
        return f"{name} = {json.dumps(value, ensure_ascii=False)}"
    if isinstance(value, bool | int | float):
        return f"{name} = {json.dumps(value)}"
    return None


def write(
    facts: Facts,
    answers: Answers,
    unanswered: Sequence[Question],
    query: Mapping[str, object],
    stored: set[str],
    today: dt.date,
    left_out: Sequence[str],
    given: set[str],
) -> tuple[str, list[str]]:
    """The file and the paths of its placeholders.

    ``given`` are the paths that were answered by hand, and go before an owned price. ``query`` are
    the keys that every ``from_store`` shares (metric and latency goals); runs in
    ``stored`` are referred to, other rows copied with their source.
    """
    origins = {
        path: f"owned price {one_line(price.id)}"
        for path, (_, price) in facts.own_answers().items()
        if path not in given
    }
    draft = Draft(answers, unanswered, today, origins)
    _plan(draft)
    _site(draft, facts)
    for work in facts.works:
        _workload(draft, work)
    for chip in facts.chips:
        _accelerator(draft, chip, facts)
    for work in facts.works:
        for speed in work.speeds:
            _throughput(draft, work, speed, query, stored)
    draft.add("", "[doubt]")
    draft.comment(
        "Half-widths, as shares. A throughput with an interval of its own (measured repetitions, an"
        " estimate's range) uses that one; the rest ± tok_s. Prices ± price, resale ± resale."
    )
    if left_out:
        draft.add("")
        draft.comment("Left out:")
        for line in left_out:
            draft.comment(f"- {line}")
    at = draft.lines.index("placeholders")
    draft.lines[at : at + 1] = _placeholders(draft.kept)
    return "\n".join(draft.lines) + "\n", draft.kept


def _placeholders(paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    return [
        "# Nobody gave these figures. `allocate` names them until they are taken from this list.",
        "placeholders = [",
        *(f"  {text(path)}," for path in paths),
        "]",
    ]


def _plan(draft: Draft) -> None:
    draft.comment(
        f"A draft that `tpubench plan init` wrote on {draft.today}. Figures marked given are yours;"
        " those marked PLACEHOLDER are nobody's: replace them, and take them from the list below."
    )
    draft.comment("Every key: docs/money.md, Where the budget goes.")
    draft.add("", "[plan]", f'name = "draft of {draft.today}"')
    draft.add(f"first_year = {draft.today.year + 1}  # the next")
    draft.figure("plan.years", whole=True)
    draft.figure("plan.wacc")
    draft.figure("plan.utilisation")
    draft.add("# tax_rate = 0.21  # on profit; none unless given")
    draft.add("placeholders")


def _site(draft: Draft, facts: Facts) -> None:
    draft.add("", "[site]")
    if "site.pue" in draft.unanswered or "site.pue" in draft.answers:
        draft.figure("site.usd_per_kwh")
        draft.figure("site.pue")
        draft.figure("site.colo_usd_per_kw_month")
        mine = [facts.owned[chip] for chip in facts.chips if chip in facts.owned]
        if mine:
            price, owned = max(mine, key=lambda entry: entry[0].as_of)
            idle = number(owned.idle_power_share)
            draft.add(f"idle_power_share = {idle}  # owned price {one_line(price.id)}")
        draft.add('source = "given, or averages: see each line"', f"as_of = {draft.today}")
    else:
        draft.comment("Not used: no chip is bought or leased in this draft.")
        draft.add("usd_per_kwh = 0.0", "pue = 1.0", 'source = "not used"')
        draft.add(f"as_of = {draft.today}")
    draft.add("", "[limits]")
    if "limits.capex_usd" in draft.answers:
        draft.figure("limits.capex_usd")
    if "limits.megawatts" in draft.answers:
        years = int(draft.value("plan.years") or 1)
        each = number(draft.answers["limits.megawatts"])
        draft.add(f"megawatts = [{', '.join([each] * years)}]  # given, each year")
    draft.add("# vendor_share = { NVIDIA = 0.65 }  # most of the work that one maker may serve")


def _workload(draft: Draft, work: DraftWork) -> None:
    of = f"workload[{work.name}]"
    draft.add("", "[[workload]]", f"name = {text(work.name)}")
    draft.figure(f"{of}.demand_mtok_first")
    draft.figure(f"{of}.growth")
    if not draft.figure(f"{of}.price_usd_per_mtok"):
        draft.add("# price_usd_per_mtok = …  # for revenue, margin, payback and return")


def _accelerator(draft: Draft, chip: str, facts: Facts) -> None:
    of = f"accelerator[{chip}]"
    sheet = devices()[chip]
    draft.add("", "[[accelerator]]", f"name = {text(chip)}")
    bought = f"{of}.buy.capex_usd" in draft.answers
    if bought:
        draft.figure(f"{of}.kw")
    elif sheet.tdp_w is not None:
        figure = sheet.figures["tdp_w"]
        draft.add(
            f"kw = {number(sheet.tdp_w / 1000)}  # thermal design power of the chip alone"
            f" ({one_line(figure.source)}, {figure.as_of}); counts only where it is bought"
        )
    else:
        draft.add("kw = 1.0  # no source gives its power; counts only where it is bought")
    if bought:
        draft.add("[accelerator.buy]")
        draft.figure(f"{of}.buy.capex_usd")
        draft.figure(f"{of}.buy.max_chips")
        draft.figure(f"{of}.buy.life_years")
        draft.figure(f"{of}.buy.residual_share")
        draft.figure(f"{of}.buy.lead_months")
        own = facts.owned.get(chip)
        if own is None or f"{of}.buy.capex_usd" not in draft.origins:
            draft.add(
                "# lot, opex_rate, availability, capex_change_per_year: 1, 0, 1, 0 unless given"
            )
            draft.add('source = "given to plan init"', f"as_of = {draft.today}")
        else:
            _upkeep(draft, *own)
    else:
        draft.comment(
            f"Not bought: nobody said what one costs (--set '{of}.buy.capex_usd=…' asks the rest)."
        )
    for years, price in sorted(facts.commits[chip].items()):
        draft.add("[[accelerator.commit]]", f'name = "{years}y"')
        _priced(draft, price)
        draft.add(f"term_years = {years}")
        _room(draft, of)
    rent = facts.rents[chip]
    if rent is not None:
        draft.add("[accelerator.rent]")
        _priced(draft, rent)
        _room(draft, of)
    elif f"{of}.rent.usd_per_chip_hour" in draft.answers:
        draft.add("[accelerator.rent]")
        draft.figure(f"{of}.rent.usd_per_chip_hour")
        draft.add('source = "given to plan init"', f"as_of = {draft.today}")
        _room(draft, of)


def _upkeep(draft: Draft, price: Price, owned: Owned) -> None:
    """What an owned price knows beyond the questions, and where it is from."""
    whole = owned.capex_usd + owned.facility_capex_usd
    if owned.facility_capex_usd:
        draft.comment(
            f"{owned.facility_capex_usd:g} of it are the building and its power, as the price has"
        )
    rate = number(owned.opex_rate * owned.capex_usd / whole)
    draft.add(f"opex_rate = {rate}  # owned price {one_line(price.id)}")
    draft.add(f"availability = {number(owned.availability)}  # owned price {one_line(price.id)}")
    draft.add(f"source = {text(price.source[:SOURCE_MOST])}", f"as_of = {price.as_of}")


def _priced(draft: Draft, price: Price) -> None:
    stale = ", stale" if price.stale(draft.today) else ""
    draft.add(
        f"price = {text(price.id)}  # ${price.usd_per_chip_hour:g} a chip-hour,"
        f" {price.layer} price of {price.as_of}{stale}"
    )


def _room(draft: Draft, of: str) -> None:
    path = f"{of}.rent.max_chips"
    if path in draft.answers:
        draft.add(f"max_chips = {number(draft.answers[path])}  # given")
    else:
        draft.add(f"max_chips = {number(NO_LIMIT)}  # no limit: nobody said how many can be had")


def _throughput(
    draft: Draft, work: DraftWork, speed: ChipSpeed, query: Mapping[str, object], stored: set[str]
) -> None:
    row, estimate = speed.summary.first, speed.summary.estimate
    assert estimate is not None
    draft.add("", "[[throughput]]", f"accelerator = {text(speed.device)}")
    draft.add(f"workload = {text(work.name)}")
    draft.comment(f"{row.evidence}: {_rate(estimate)}{case_words(speed.summary)}")
    if row.run_id in stored:
        draft.add(f"from_store = {{ {_query(speed, query)} }}")
    else:
        draft.add(f"tok_s = {number(estimate.point)}")
        if estimate.low is not None and estimate.high is not None and estimate.low > 0:
            draft.add(
                f"low_tok_s = {number(estimate.low)}", f"high_tok_s = {number(estimate.high)}"
            )
        draft.add(f"evidence = {text(row.evidence)}")
        source = row.source or row.run_id
        if len(source) > SOURCE_MOST:
            draft.comment(source)
        draft.add(f"source = {text(source[:SOURCE_MOST])}")
    path = f"throughput[{speed.device}, {work.name}].readiness"
    if path in draft.answers or path in draft.unanswered:
        draft.figure(path)
        draft.add("# porting_usd, porting_months: 0 unless given")
    for other in speed.others[:OTHERS_SHOWN]:
        assert other.estimate is not None
        draft.comment(f"also {other.first.evidence}: {_rate(other.estimate)}{case_words(other)}")
    more = len(speed.others) - OTHERS_SHOWN
    if more > 0:
        draft.comment(f"and {more} more cases")


def _rate(estimate: Estimate) -> str:
    ends = ""
    if estimate.low is not None and estimate.high is not None:
        ends = f" ({estimate.low:,.4g} to {estimate.high:,.4g})"
    return f"{estimate.point:,.4g} tok/s a chip{ends}"


def _query(speed: ChipSpeed, query: Mapping[str, object]) -> str:
    """What picks exactly this case of this run."""
    row = speed.summary.first
    keys: dict[str, object] = {
        "workload": row.workload, "preset": row.preset, "dtype": row.dtype, "run_id": row.run_id,
        **query, "chips": row.chips,
    }  # fmt: skip
    for key, value in speed.summary.params.items():
        if key not in keys and key not in FromStore.model_fields:
            keys[key] = value
    return ", ".join(part for k, v in keys.items() if (part := key_value(k, v)) is not None)


def save(path: Path, content: str) -> None:
    """Write the file in one go."""
    path.write_text(content, encoding="utf-8")
