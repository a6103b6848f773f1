"""One input of a plan by its path, as ``--set`` names it and as flips and doubts print it.

    table.key                              site.usd_per_kwh
    array[name].key                        accelerator[tpu-v7].commit[3y].usd_per_chip_hour
    price[device]                          every price of one chip: to buy, commit to and rent
    table.list[year]                       limits.megawatts[2029]: one year of a yearly list

An entry of ``throughput`` is named by its accelerator, or by "accelerator, workload". A path may
name several numbers (a list, or several entries): then they are set, or multiplied, together.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tpubench.costs.allocation.plan import Plan, plan_of
from tpubench.costs.userfile import LEAST
from tpubench.errors import UsageError

RATED = ("commit", "contract")
_YEAR = re.compile(r"\[(\d{4})\]$")
CAPPED = {"readiness"}
"""Shares of which a factor takes every value to 1 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlace:
    """Where a value stands: ``holder[key]``, or one number of the list there."""

    holder: dict[str, Any]
    key: str
    index: int | None = None

    @property
    def value(self) -> Any:
        value = self.holder.get(self.key)
        return value if self.index is None or value is None else value[self.index]

    def put(self, value: Any) -> None:
        if self.index is None:
            self.holder[self.key] = value
        else:
            self.holder[self.key][self.index] = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``PATH=VALUE``, or ``PATH*=FACTOR``."""

    path: str
    value: Any
    times: bool = False

    def __str__(self) -> str:
        return f"{self.path}{'*=' if self.times else '='}{self.value}"


def parse(text: str) -> Setting:
    """A ``--set`` argument. UsageError unless it has the form PATH=VALUE or PATH*=FACTOR."""
    path, equals, value = _split(text)
    if not equals or not path or not value:
        raise UsageError(f"--set {text!r}: write PATH=VALUE or PATH*=FACTOR")
    times = path.endswith("*")
    path = path.removesuffix("*").strip()
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    if isinstance(parsed, float) and 0 < abs(parsed) < LEAST:
        raise UsageError(f"--set {text!r}: {value} is neither zero nor at least {LEAST:g}")
    if times and not _number(parsed):
        raise UsageError(f"--set {text!r}: {value!r} is not a factor")
    return Setting(path=path, value=parsed, times=times)


def _split(text: str) -> tuple[str, str, str]:
    """At the first "=" outside brackets: a name may hold one."""
    depth = 0
    for i, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "=" and depth <= 0:
            return text[:i].strip(), "=", text[i + 1 :].strip()
    return text.strip(), "", ""


def apply(plan: Plan, settings: Iterable[Setting]) -> Plan:
    """The plan with inputs changed, checked like a file. UsageError naming the setting."""
    content = plan.model_dump()
    last: Setting | None = None
    for setting in settings:
        change(content, setting)
        _given(content, setting.path)
        last = setting
    return plan if last is None else plan_of(content, f"--set {last}")


def _given(content: dict[str, Any], path: str) -> None:
    """A figure that was set is nobody's placeholder any more."""
    general = content["plan"]
    if path in general["placeholders"]:
        general["placeholders"] = [other for other in general["placeholders"] if other != path]


def change(content: dict[str, Any], setting: Setting) -> None:
    """One setting in a plan's content. UsageError where its path leads to nothing, or to something
    that cannot be multiplied."""
    for place in places(content, setting.path):
        old = place.value
        if not setting.times:
            place.put(_like(old, setting.value))
        elif isinstance(old, list) and all(_number(v) for v in old):
            place.put([_scaled(place.key, v, setting.value) for v in old])
        elif _number(old):
            place.put(_scaled(place.key, old, setting.value))
        else:
            raise UsageError(f"--set {setting}: {place.key} has no number to multiply")
    if setting.path.startswith("scenario[") and setting.path.endswith("].probability"):
        _rescale(content, setting)


def _like(old: Any, new: Any) -> Any:
    """A whole number where a fraction stood is the same number."""
    if isinstance(new, int) and not isinstance(new, bool) and isinstance(old, float):
        return float(new)
    return new


def _scaled(key: str, value: float, factor: float) -> float:
    product = value * factor
    return min(product, 1.0) if key in CAPPED else product


def _rescale(content: dict[str, Any], setting: Setting) -> None:
    """The other scenarios share what is left in the proportions they had."""
    mine = {id(place.holder) for place in places(content, setting.path)}
    fixed = [s for s in content["scenario"] if id(s) in mine]
    rest = [s for s in content["scenario"] if id(s) not in mine]
    if not all(_number(s["probability"]) for s in fixed):
        return
    left = 1 - sum(s["probability"] for s in fixed)
    before = sum(s["probability"] for s in rest)
    if rest and left > 0:
        for scenario in rest:
            scenario["probability"] *= left / before


def places(content: dict[str, Any], path: str) -> list[InputPlace]:
    """Every place that a path names. UsageError when there is none."""
    if path.startswith("price[") and path.endswith("]"):
        listed = list(_prices(content, path[len("price[") : -1]))
    else:
        listed = list(_walk(content, path, path))
        year = _YEAR.search(path)
        if year is not None and not listed:
            listed = list(_of_year(content, path, year))
    if not listed:
        raise UsageError(f"--set {path}: the plan has no such input")
    return listed


def _of_year(content: dict[str, Any], path: str, year: re.Match[str]) -> Iterator[InputPlace]:
    """One year of the yearly lists that the path names."""
    first, count = content["plan"]["first_year"], content["plan"]["years"]
    index = int(year[1]) - first
    if not 0 <= index < count:
        raise UsageError(f"--set {path}: the plan is from {first} to {first + count - 1}")
    for place in places(content, path[: year.start()]):
        if not isinstance(place.value, list) or len(place.value) != count:
            raise UsageError(f"--set {path}: {place.key} is not a list of one value a year")
        yield InputPlace(holder=place.holder, key=place.key, index=index)


def _prices(content: dict[str, Any], device: str) -> Iterator[InputPlace]:
    for chip in content["accelerator"]:
        if chip["name"] != device:
            continue
        if chip.get("buy"):
            yield InputPlace(holder=chip["buy"], key="capex_usd")
        for key in RATED:
            for option in chip.get(key) or []:
                yield InputPlace(holder=option, key="usd_per_chip_hour")
        if chip.get("rent"):
            yield InputPlace(holder=chip["rent"], key="usd_per_chip_hour")


def labels(array: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """The names that an entry of an array answers to."""
    if array == "throughput":
        return (entry["accelerator"], f"{entry['accelerator']}, {entry['workload']}")
    return (entry["name"],)


def _walk(node: Any, path: str, whole: str) -> Iterator[InputPlace]:
    """Entries are matched by their own names, so a name may hold any character."""
    if not isinstance(node, dict):
        raise UsageError(f"--set {whole}: there is nothing under {path!r}")
    head = path.partition("[")[0]
    entries = node.get(head)
    if "[" in path and isinstance(entries, list) and not all(map(_number, entries)):
        rest = path[len(head) + 1 :]
        known = [name for entry in entries for name in labels(head, entry)]
        fits = [n for n in known if rest == f"{n}]" or rest.startswith(f"{n}].")]
        if not fits:
            there = ", ".join(dict.fromkeys(known)) or "none"
            raise UsageError(f"--set {whole}: no {head} of that name; there are {there}")
        name = max(fits, key=len)
        for entry in entries:
            if name in labels(head, entry):
                yield from _walk(entry, rest[len(name) + 2 :], whole)
        return
    if _YEAR.fullmatch(path[len(head) :]) and head in node:
        return
    if not path:
        raise UsageError(f"--set {whole}: name a key after the bracket")
    if path in node and not isinstance(node[path], dict):
        yield InputPlace(holder=node, key=path)
        return
    # Names of vendors and workloads are keys too, dots and all: the whole rest may be one.
    head, dot, rest = path.partition(".")
    if dot and isinstance(node.get(head), dict):
        table = node[head]
        if all(_number(value) for value in table.values()):
            yield InputPlace(holder=table, key=rest)
        else:
            yield from _walk(table, rest, whole)
        return
    there = ", ".join(map(str, node))
    raise UsageError(f"--set {whole}: no key {path!r} there; there are {there}")


def _number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
