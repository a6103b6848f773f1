"""A plan as a second, independent model: loops over the documented rules, solved by PuLP and CBC.

Nothing of ``costs/`` is used: it reads the plan's content as TOML gives it. Purchases, commitments
and ports may be fractions, as in the relaxation; a contract is signed or not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pulp

HOURS = 8760.0
VENDORS = {"tpu": "Google", "nvidia": "NVIDIA", "amd": "AMD"}
EXPENSES = ("running", "rent", "commitments", "fees", "porting")


class Model:
    """One plan's variables, constraints and cash."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.c = content
        self.years: int = content["plan"]["years"]
        self.wacc: float = content["plan"]["wacc"]
        self.tax: float = content["plan"]["tax_rate"]
        self.futures = content.get("scenario") or [{"name": "all", "probability": 1.0}]
        self.problem = pulp.LpProblem("plan", pulp.LpMinimize)
        self.terms: list[Any] = []
        self.count = 0
        self.capacity: dict[tuple[str, int, int], list[Any]] = {}
        self.power: list[list[Any]] = [[] for _ in range(self.years)]
        self.capex: list[Any] = []

    def solve(self) -> float | None:
        """Present cost in dollars; None where the plan is impossible."""
        for chip in self.c["accelerator"]:
            for s in range(len(self.futures)):
                for i, _ in enumerate(self.pieces(chip["name"], s)):
                    self.capacity[chip["name"], s, i] = []
            if "buy" in chip:
                self.buy(chip)
            for deal in chip.get("commit", []):
                self.commit(chip, deal)
            for deal in chip.get("contract", []):
                self.contract(chip, deal)
            self.rent(chip)
        self.work()
        limits = self.c.get("limits", {})
        if "capex_usd" in limits:
            self.problem += pulp.lpSum(self.capex) / 1e6 <= limits["capex_usd"] / 1e6
        for y, most in enumerate(limits.get("megawatts", [])):
            self.problem += pulp.lpSum(self.power[y]) * 1e3 <= most * 1e3
        self.problem += pulp.lpSum(self.terms)
        self.problem.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-9))
        if pulp.LpStatus[self.problem.status] != "Optimal":
            return None
        return float(pulp.value(self.problem.objective)) * 1e3

    def var(self, high: float | None = None, kind: str = "Continuous") -> Any:
        self.count += 1
        return pulp.LpVariable(f"x{self.count}", 0, high, kind)

    def pay(self, what: str, amount: Any, s: int, year: int, time: float | None = None) -> None:
        """Cash at ``time`` (the year's end unless given), and its tax at the year's end."""
        chance = self.futures[s]["probability"]
        now = (1 + self.wacc) ** -(year + 1 if time is None else time)
        end = (1 + self.wacc) ** -(year + 1)
        cash = {"resale": -1.0, "depreciation": 0.0, "book": 0.0}.get(what, 1.0)
        profit = {"capex": 0.0, "resale": 1.0}.get(what, -1.0)
        assert what in {*EXPENSES, "capex", "resale", "depreciation", "book"}
        self.terms.append(amount * (chance * (cash * now + self.tax * profit * end) / 1e3))

    def factor(self, key: str, chip: str, s: int) -> float:
        """Product of a scenario's factors on a chip, or the sum of its months."""
        named = self.futures[s].get(key, {})
        values = [named[n] for n in ("all", chip, vendor(chip)) if n in named]
        return float(sum(values) if key.endswith("months") else math.prod(values))

    def pairs(self, chip: str | None = None) -> Iterator[dict[str, Any]]:
        return (p for p in self.c["throughput"] if chip in {None, p["accelerator"]})

    def ready(self, pair: dict[str, Any], s: int) -> float:
        months = pair.get("porting_months", 0.0)
        if months > 0 or pair.get("porting_usd", 0.0) > 0:
            months += self.factor("delay_months", pair["accelerator"], s)
        return float(months) / 12

    def pieces(self, chip: str, s: int) -> list[tuple[float, float]]:
        """The years of a chip, cut where one of its workloads becomes ready."""
        cuts = {self.ready(pair, s) for pair in self.pairs(chip)}
        edges = sorted({*map(float, range(self.years + 1)), *(t for t in cuts if t < self.years)})
        return list(itertools.pairwise(edges))

    def supply(self, chip: str, s: int, amount: Any, start: float, end: float) -> None:
        """Chips that work from ``start`` to ``end``, for what each piece has of it."""
        for i, piece in enumerate(self.pieces(chip, s)):
            share = common((start, end), piece)
            if share > 0:
                self.capacity[chip, s, i].append(amount * share)

    def each_year(self, start: float, end: float) -> Iterator[tuple[int, float]]:
        for y in range(self.years):
            share = common((start, end), (y, y + 1.0))
            if share > 0:
                yield y, share

    def site_usd(self, chip: dict[str, Any]) -> float:
        site, used = self.c["site"], self.c["plan"]["utilisation"]
        idle = site["idle_power_share"]
        power = chip["kw"] * (idle + (1 - idle) * used) * site["pue"] * site["usd_per_kwh"] * HOURS
        return float(power + 12 * chip["kw"] * site["colo_usd_per_kw_month"])

    def draw_power(self, chip: dict[str, Any], chips: Any, start: float, end: float) -> None:
        for y, _ in self.each_year(start, end):
            self.power[y].append(chips * (chip["kw"] * self.c["site"]["pue"] / 1000))

    def buy(self, chip: dict[str, Any]) -> None:
        deal, name = chip["buy"], chip["name"]
        life, lead = deal["life_years"], deal["lead_months"]
        books = deal.get("depreciation_years", life)
        for e in range(self.years):
            chips = self.var(math.floor(deal["max_chips"] / deal["lot"] + 1e-9)) * deal["lot"]
            price = deal["capex_usd"] * (1 + deal["capex_change_per_year"]) ** e
            self.capex.append(chips * price)
            self.draw_power(chip, chips, e + lead / 12, e + lead / 12 + life)
            for s in range(len(self.futures)):
                there = chips * min(1.0, self.factor("supply", name, s))
                start = e + (lead + self.factor("delay_months", name, s)) / 12
                end = min(start + life, float(self.years))
                self.supply(name, s, there * deal["availability"], start, start + life)
                self.pay("capex", there * price, s, e, float(e))
                yearly = deal["opex_rate"] * deal["capex_usd"] + self.site_usd(chip)
                for y, share in self.each_year(start, start + life):
                    self.pay("running", there * (yearly * share), s, y)
                for y, share in self.each_year(start, min(start + books, end)):
                    self.pay("depreciation", there * (price * share / books), s, y)
                age = max(end - start, 0.0)
                gone = min(max(math.ceil(end - 1e-9) - 1, 0), self.years - 1)
                worth = price * worth_at(deal, age) * self.c["plan"]["resale_factor"]
                self.pay("resale", there * worth, s, gone, end)
                self.pay("book", there * (price * max(1 - age / books, 0.0)), s, gone)

    def commit(self, chip: dict[str, Any], deal: dict[str, Any]) -> None:
        name, term, lot = chip["name"], deal["term_years"], deal["lot"]
        ramp, steps = deal["ramp"], deal["price_steps"]
        bill = [deal["usd_per_chip_hour"] * HOURS * ramp[n] * steps[n] for n in range(term)]
        left, signed = 1 - deal["prepay_share"], []
        for e in range(self.years):
            lots = self.var(math.floor(deal["max_chips"] / lot + 1e-9))
            signed.append(lots)
            chips = lots * lot
            if deal["on_site"]:
                begin = e + deal["lead_months"] / 12
                self.draw_power(chip, chips, begin, begin + term)
            for s in range(len(self.futures)):
                late = self.factor("contract_delay_months", name, s)
                start = e + (deal["lead_months"] + late) / 12
                backs = []
                for n in range(term):
                    self.term_year(chip, deal, s, chips, start + n, ramp[n], bill[n] * left)
                    ahead = sum(share for _, share in self.each_year(start + n, start + n + 1))
                    self.pay("commitments", chips * (bill[n] * ahead * (1 - left)), s, e, float(e))
                    if n >= deal.get("exit_after_years", term) and start + n < self.years - 1e-9:
                        back = self.var() * lot
                        backs.append(back)
                        for m in range(n, term):
                            self.term_year(
                                chip, deal, s, back * -1, start + m, ramp[m], bill[m] * left
                            )
                        fee = deal["exit_fee_share"] * sum(bill[n:]) * left
                        self.pay("fees", back * fee, s, int(start + n + 1e-9), start + n)
                if backs:
                    self.problem += pulp.lpSum(backs) <= chips
        if deal.get("min_chips"):
            self.problem += pulp.lpSum(signed) >= math.ceil(deal["min_chips"] / lot - 1e-9)

    def term_year(
        self, chip: dict[str, Any], deal: dict[str, Any], s: int, chips: Any, start: float,
        ramp: float, bill: float,
    ) -> None:  # fmt: skip
        """One contract year: its chips, instalment and, for a lease, the site."""
        self.supply(chip["name"], s, chips * ramp, start, start + 1)
        for y, share in self.each_year(start, start + 1):
            self.pay("commitments", chips * (bill * share), s, y)
            if deal["on_site"]:
                self.pay("running", chips * (ramp * share * self.site_usd(chip)), s, y)

    def contract(self, chip: dict[str, Any], deal: dict[str, Any]) -> None:
        name = chip["name"]
        sign = 1.0 if deal["signed"] else self.var(1, "Integer")
        for s in range(len(self.futures)):
            late = self.factor("contract_delay_months", name, s)
            for n in range(deal["term_years"]):
                start = n + (deal["lead_months"] + late) / 12
                drawn, last = [], 0
                for i, piece in enumerate(self.pieces(name, s)):
                    share = common((start, start + 1), piece)
                    if share > 0:
                        draw = self.var()
                        self.problem += draw <= sign * (deal["max_chips"][n] * share)
                        self.capacity[name, s, i].append(draw)
                        drawn.append(draw)
                        last = int(piece[0] + 1e-9)
                least = 0.0
                for y, share in self.each_year(start, start + 1):
                    due = deal["minimum_usd_per_year"][n] * share
                    least += due
                    self.pay("commitments", sign * (due * (1 - deal["prepay_share"])), s, y)
                    self.pay("commitments", sign * (due * deal["prepay_share"]), s, 0, 0.0)
                if drawn:
                    rate = deal["usd_per_chip_hour"] * deal["price_steps"][n] * HOURS
                    more = self.var()
                    self.problem += more >= pulp.lpSum(drawn) * (rate / 1e4) - sign * (least / 1e4)
                    self.pay("commitments", more * 1e4, s, last)

    def rent(self, chip: dict[str, Any]) -> None:
        deal, name = chip["rent"], chip["name"]
        for s in range(len(self.futures)):
            for i, (start, end) in enumerate(self.pieces(name, s)):
                y = int(start + 1e-9)
                chips = self.var(math.floor(deal["max_chips"] / deal["lot"])) * deal["lot"]
                self.capacity[name, s, i].append(chips * (end - start))
                rate = deal["usd_per_chip_hour"] * (1 + deal["change_per_year"]) ** y
                rate *= self.factor("rent_price", name, s)
                self.pay("rent", chips * (rate * HOURS * (end - start)), s, y)

    def work(self) -> None:
        """Demand met in full, ports paid for, capacity kept, vendors' shares of the work."""
        uses: dict[tuple[str, int, int], list[Any]] = {key: [] for key in self.capacity}
        served: dict[tuple[str, int, int], list[tuple[str, Any]]] = {}
        speeds: dict[tuple[str, int, int], list[float]] = {}
        for pair in self.pairs():
            port = None
            if pair.get("porting_usd", 0.0) > 0:
                port = self.var(1)
                for s in range(len(self.futures)):
                    self.pay("porting", port * pair["porting_usd"], s, 0, 0.0)
            self.use(pair, port, uses, served, speeds)
        for key, there in self.capacity.items():
            self.problem += pulp.lpSum(uses[key]) <= pulp.lpSum(there)
        for s in range(len(self.futures)):
            for y in range(self.years):
                self.serve(s, y, served, speeds)

    def use(self, pair: Any, port: Any, uses: Any, served: Any, speeds: Any) -> None:
        chip, work = pair["accelerator"], pair["workload"]
        for s in range(len(self.futures)):
            by_year: dict[int, list[Any]] = {}
            for i, (start, _) in enumerate(self.pieces(chip, s)):
                y = int(start + 1e-9)
                speed = self.mtok(pair, y, s)
                if start >= self.ready(pair, s) - 1e-9 and speed > 0:
                    part = self.var(1)
                    uses[chip, s, i].append(part * (self.demand(work, y, s) / speed))
                    served.setdefault((work, y, s), []).append((chip, part))
                    by_year.setdefault(y, []).append(part)
            for y in range(self.years):
                if self.ready(pair, s) < y + 1 - 1e-9:
                    speeds.setdefault((work, y, s), []).append(self.mtok(pair, y, s))
            for parts in by_year.values():
                if port is not None:
                    self.problem += pulp.lpSum(parts) <= port

    def serve(self, s: int, y: int, served: Any, speeds: Any) -> None:
        names = [w["name"] for w in self.c["workload"]]
        for name in names:
            self.problem += pulp.lpSum(part for _, part in served.get((name, y, s), [])) == 1
        chips = {n: self.demand(n, y, s) / max(speeds.get((n, y, s), [math.inf])) for n in names}
        total = sum(chips.values())
        for maker, most in self.c["limits"].get("vendor_share", {}).items():
            mine = [
                part * (chips[name] / total)
                for name in names
                for chip, part in served.get((name, y, s), [])
                if vendor(chip) == maker
            ]
            if total:
                self.problem += pulp.lpSum(mine) <= most

    def demand(self, work: str, y: int, s: int) -> float:
        item = next(w for w in self.c["workload"] if w["name"] == work)
        base = item["demand_mtok_first"] * (1 + item["growth"]) ** y
        named = self.futures[s].get("demand", {})
        return float(base * math.prod(named[n] for n in ("all", work) if n in named))

    def mtok(self, pair: dict[str, Any], y: int, s: int) -> float:
        """Million tokens of a chip in a year."""
        ready = pair.get("readiness", 1.0)
        ready = ready[y] if isinstance(ready, list) else ready
        soft = min(1.0, ready * self.factor("readiness", pair["accelerator"], s))
        return float(pair["tok_s"] * soft * self.c["plan"]["utilisation"] * 3600 * HOURS / 1e6)


def vendor(chip: str) -> str:
    return VENDORS[chip.partition("-")[0]]


def common(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)


def worth_at(deal: dict[str, Any], age: float) -> float:
    """Share of the price that a chip is worth at an age, in years."""
    if "residual_curve" in deal:
        curve = [1.0, *deal["residual_curve"]]
        if age >= len(curve) - 1:
            return float(curve[-1])
        whole = int(age)
        return float(curve[whole] + (curve[whole + 1] - curve[whole]) * (age - whole))
    return float(1 - (1 - deal.get("residual_share", 0.0)) * min(age / deal["life_years"], 1.0))
