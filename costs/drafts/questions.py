"""What no store can know of a plan: asked for by the path that ``--set`` names it by.

Every question has a placeholder, which is written as one, or may be left out. Placeholders with a
source are published averages; the others are round numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tpubench.costs.drafts.works import DraftWork
from tpubench.costs.owned import Owned
from tpubench.devices.prices import Price
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

Answers = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One figure to ask for. ``placeholder`` None: it is left out where nobody answers."""

    path: str
    asks: str
    placeholder: float | None
    why: str = ""
    """Source of the placeholder."""
    low: float = 0.0
    high: float = 1e15
    open_low: bool = False
    """Whether ``low`` itself is too low."""
    whole: bool = False

    def check(self, text: str) -> float:
        """The answer as a number; UsageError naming the path for anything else."""
        try:
            value = float(text.replace("_", ""))
        except ValueError:
            raise UsageError(f"--set {self.path}={text}: write a number") from None
        if self.whole and value != int(value if abs(value) < 1e15 else 0):
            raise UsageError(f"--set {self.path}={text}: write a whole number")
        fits = (self.low < value if self.open_low else self.low <= value) and value <= self.high
        if not fits:
            least = "more than" if self.open_low else "at least"
            raise UsageError(
                f"--set {self.path}={text}: {least} {self.low:g} and at most {self.high:g} is taken"
            )
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was found out without asking."""

    works: list[DraftWork]
    rents: Mapping[str, Price | None]
    """The on-demand price of every chip in them."""
    commits: Mapping[str, Mapping[int, Price]]
    """Prices for a term of years, by chip."""
    owned: Mapping[str, tuple[Price, Owned]] = field(default_factory=dict)
    """The reader's own [[owned]] price of a chip, with its figures."""

    def own_answers(self) -> dict[str, tuple[float, Price]]:
        """What the owned prices say of questions, by path, each with its price. Of the site and the
        cost of capital, of which a plan has one, the newest price counts."""
        answers: dict[str, tuple[float, Price]] = {}
        mine = [(chip, *self.owned[chip]) for chip in self.chips if chip in self.owned]
        for chip, price, owned in sorted(mine, key=lambda entry: entry[1].as_of):
            of = f"accelerator[{chip}]"
            whole = owned.capex_usd + owned.facility_capex_usd
            figures = {
                f"{of}.buy.capex_usd": whole,
                f"{of}.kw": owned.kw,
                f"{of}.buy.life_years": owned.years,
                f"{of}.buy.residual_share": owned.residual_usd / whole,
                "plan.wacc": owned.wacc,
                "site.usd_per_kwh": owned.usd_per_kwh,
                "site.pue": owned.pue,
                "site.colo_usd_per_kw_month": owned.colo_usd_per_kw_month,
            }
            answers |= {path: (value, price) for path, value in figures.items()}
        return answers

    @property
    def chips(self) -> list[str]:
        """Every chip, TPUs first."""
        names = {speed.device for work in self.works for speed in work.speeds}
        return sorted(names, key=lambda name: (not devices()[name].is_tpu, name))


def questions(facts: Facts, answers: Answers) -> Iterator[Question]:
    """Every question that these facts and answers leave, in the order of the file."""
    yield Question(path="plan.years", asks="years to plan for", placeholder=5, low=1, high=30,
                   whole=True)  # fmt: skip
    yield Question(path="plan.wacc", asks="cost of capital, share a year", placeholder=0.087,
                   why="CAPM of Meta, valueinvesting.io, undated", high=1)  # fmt: skip
    yield Question(
        path="plan.utilisation", asks="share of paid hours that serve", placeholder=0.5,
        why="production serving 0.3 to 0.6, gmicloud.ai, 2026-05", high=1, open_low=True,
    )  # fmt: skip
    for work in facts.works:
        of = f"workload[{work.name}]"
        yield Question(path=f"{of}.demand_mtok_first", asks="million tokens in the first year",
                       placeholder=1e6)  # fmt: skip
        yield Question(path=f"{of}.growth", asks="growth of that demand, share a year",
                       placeholder=0.0, low=-0.99, high=100)  # fmt: skip
        yield Question(path=f"{of}.price_usd_per_mtok", asks="what a million tokens sells for, $",
                       placeholder=None)  # fmt: skip
    for chip in facts.chips:
        yield from _of_chip(chip, facts, answers)
    if any(path.endswith(".buy.capex_usd") for path in answers):
        yield from SITE
        yield Question(path="limits.capex_usd", asks="budget for purchases in all years, $",
                       placeholder=None)  # fmt: skip
        yield Question(path="limits.megawatts", asks="power for them at the meter, MW each year",
                       placeholder=None)  # fmt: skip


SITE = (
    Question(path="site.usd_per_kwh", asks="electricity, $ a kWh", placeholder=0.0929,
             why="US industrial average, EIA, 2026-01", high=10),
    Question(path="site.pue", asks="power usage effectiveness", placeholder=1.54,
             why="industry average, Uptime Institute, 2025-07", low=1, high=10),
    Question(path="site.colo_usd_per_kw_month", asks="building, $ a kW and month",
             placeholder=194.95, why="primary markets, CBRE, 2026-02"),
)  # fmt: skip


def _of_chip(chip: str, facts: Facts, answers: Answers) -> Iterator[Question]:
    of = f"accelerator[{chip}]"
    if facts.rents[chip] is None:
        yield Question(path=f"{of}.rent.usd_per_chip_hour", open_low=True, placeholder=None,
                       asks="no price is known: rent of one chip, $ an hour")  # fmt: skip
    yield Question(path=f"{of}.rent.max_chips", asks="most chips to rent or commit to",
                   placeholder=None)  # fmt: skip
    yield Question(path=f"{of}.buy.capex_usd", open_low=True, placeholder=None,
                   asks="price of one chip with its share of server and network, $")  # fmt: skip
    if f"{of}.buy.capex_usd" in answers:
        power = devices()[chip].tdp_w
        yield Question(
            path=f"{of}.kw", asks="power of one chip with its share of the server, kW",
            placeholder=1.0 if power is None else power / 1000, open_low=True,
            why="" if power is None else "thermal design power of the chip alone",
        )  # fmt: skip
        yield Question(path=f"{of}.buy.max_chips", asks="chips for sale each year",
                       placeholder=10_000)  # fmt: skip
        yield Question(path=f"{of}.buy.life_years", asks="years a chip is used", placeholder=5,
                       why="Amazon's servers, 10-K FY2024", open_low=True, high=30)  # fmt: skip
        yield Question(path=f"{of}.buy.residual_share", placeholder=0.0, high=1,
                       asks="what it is worth then, share of its price")  # fmt: skip
        yield Question(path=f"{of}.buy.lead_months", asks="months from order to delivery",
                       placeholder=6, high=120)  # fmt: skip
    for work in facts.works:
        for speed in work.speeds:
            if speed.device == chip and unproved(chip, speed.summary.first.evidence):
                yield Question(
                    path=f"throughput[{chip}, {work.name}].readiness", high=1, placeholder=1.0,
                    asks="share of its published or estimated rate that your software reaches",
                )  # fmt: skip


def unproved(chip: str, evidence: str) -> bool:
    """Whether a rate on a TPU says nothing of the software that will be used there."""
    return devices()[chip].is_tpu and evidence != "measured"


def answered(
    facts: Facts, given: Mapping[str, str], ask: Callable[[Question, str], str] | None
) -> tuple[dict[str, float], list[Question]]:
    """Answers by path, and the questions that got none.

    ``given`` are the answers of the command line; ``ask`` puts a question to a person, with what
    was wrong with the last reply, and returns "" where they have no answer. UsageError for an
    answer that is no figure or fits no question.
    """
    answers: dict[str, float] = {}
    put: dict[str, Question] = {}
    while True:
        open_ones = [q for q in questions(facts, answers) if q.path not in put]
        if not open_ones:
            break
        question = open_ones[0]
        put[question.path] = question
        text = given.get(question.path)
        if text is not None:
            answers[question.path] = question.check(text)
        elif ask is not None:
            complaint = ""
            while reply := ask(question, complaint).strip():
                try:
                    answers[question.path] = question.check(reply)
                    break
                except UsageError as error:
                    complaint = str(error)
    stray = [path for path in given if path not in put]
    if stray:
        raise UsageError(
            f"--set {stray[0]}: nothing asks for it here; questions are {', '.join(put)}"
        )
    return answers, [q for path, q in put.items() if path not in answers]
