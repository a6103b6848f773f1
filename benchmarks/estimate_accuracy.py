"""Judges the analytical model on what it never saw: one command, from files in this repository.

    python benchmarks/estimate_accuracy.py              prints the table of classes
    python benchmarks/estimate_accuracy.py --write      docs/estimate-accuracy.md, all tables
    python benchmarks/estimate_accuracy.py --quick      without new deviations: seconds, flattering

For everything held out the whole fit is repeated without it: effects, their deviations and the
calibration of the intervals.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from fit_estimates import read

from tpubench.estimates.problem import Serving, Training
from tpubench.estimates.published.pairs import PredictedLine, order
from tpubench.estimates.published.validate import Accuracy, accuracy
from tpubench.estimates.regression import calibration, features, fitting, process
from tpubench.estimates.regression.facts import Fact, log_speed
from tpubench.estimates.regression.fitting import Trained
from tpubench.estimates.regression.model import prediction
from tpubench.estimates.roofline import physics, training
from tpubench.estimates.roofline.operators import usual
from tpubench.estimates.roofline.terms import ATTENTION, CACHE, PROGRAM, STREAM

Facts = Mapping[str, Sequence[Fact]]
PAGE = Path(__file__).parents[1] / "docs" / "estimate-accuracy.md"
KEPT = "## What each effect is worth"
"""Where the part of the page begins that ``estimate_ablation.py`` writes."""


def _software(fact: Fact) -> str:
    return fact.problem.software


def _tpu(fact: Fact) -> str | None:
    chip = fact.problem.chip
    return chip.generation if chip.is_tpu else None


def _benchmark(fact: Fact) -> str | None:
    """Every round of a benchmark, every release of a table."""
    return fact.problem.family


def _model(fact: Fact) -> str | None:
    return fact.problem.model if fact.problem.model in _LARGE else None


_LARGE = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b", "mixtral-8x7b", "deepseek-v3")
SCHEMES: Mapping[str, Callable[[Fact], str | None]] = {
    "source": lambda fact: fact.source,
    "family of sources": _benchmark,
    "family of software": _software,
    "generation of TPUs": _tpu,
    "one of five models": _model,
}
"""What is held out together; None is never held out in that way."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--quick", action="store_true", help="keep the deviations of the whole fit")
    parser.add_argument("--only", help="one scheme alone, e.g. source")
    parser.add_argument("--date", default=dt.date.today().isoformat())
    given = parser.parse_args()
    groups = read()
    schemes = {k: v for k, v in SCHEMES.items() if given.only in (None, k)}
    judged = {}
    whole = {name: fitting.train(name, facts) for name, facts in groups.items()}
    done: dict[frozenset[int], list[PredictedLine]] = {}
    for scheme, label in schemes.items():
        judged[scheme] = list(held_out(groups, whole, label, done, quick=given.quick))
        _show(scheme, judged[scheme])
    if given.only in (None, "random fifth"):
        judged["random fifth"] = list(held_out(groups, whole, _fifth(groups), done,
                                               quick=given.quick))  # fmt: skip
        _show("random fifth", judged["random fifth"])
    if given.write:
        old = PAGE.read_text(encoding="utf-8")
        kept = old[old.index(KEPT) :] if KEPT in old else ""
        page = "\n".join(_page(judged, groups, given.date)) + "\n"
        PAGE.write_text(page + ("\n" + kept if kept else ""), encoding="utf-8")


def _show(scheme: str, rows: Sequence[PredictedLine]) -> None:
    print(f"\n{scheme} held out")
    print(*_classes(rows), sep="\n", flush=True)


def _fifth(groups: Facts) -> Callable[[Fact], str]:
    own = {
        id(fact): str(int(tenth) % 5)
        for facts in groups.values()
        for fact, tenth in zip(facts, fitting.tenths(len(facts)), strict=True)
    }
    return lambda fact: own[id(fact)]


def held_out(
    groups: Facts,
    whole: Mapping[str, Trained],
    label: Callable[[Fact], str | None],
    done: dict[frozenset[int], list[PredictedLine]],
    *,
    quick: bool,
) -> Iterator[PredictedLine]:
    """Every row predicted by a model that knows nothing of its label."""
    labels = sorted({x for facts in groups.values() for f in facts if (x := label(f)) is not None})
    for name in labels:
        out = frozenset(id(f) for facts in groups.values() for f in facts if label(f) == name)
        if out not in done:
            done[out] = _without(groups, whole, out, quick=quick)
            print(f"  without {name}: {_line(done[out])}", file=sys.stderr, flush=True)
        yield from done[out]


def _without(
    groups: Facts, whole: Mapping[str, Trained], out: frozenset[int], *, quick: bool
) -> list[PredictedLine]:
    facts = {name: [f for f in some if id(f) not in out] for name, some in groups.items()}
    kept = {}
    for name, some in groups.items():
        if len(facts[name]) == len(some):
            kept[name] = whole[name]
        elif quick:
            fit = _same_deviations(whole[name].fit, facts[name])
            kept[name] = Trained(fit=fit, errors=fitting.held_out_errors(fit, facts[name]))
    model = fitting.fit(facts, "judged", kept)
    left = [f for some in groups.values() for f in some if id(f) in out]
    rows = [(entry, entry.problem) for fact in left for entry in fact.entries]
    predicted = model.predict([problem for _, problem in rows if problem is not None])
    return [
        PredictedLine(line=entry.line, source=entry.source, problem=problem, value=entry.value,
               predicted=estimate)
        for (entry, problem), estimate in zip(rows, predicted, strict=True)
        if problem is not None and entry.value is not None
    ]  # fmt: skip


def _same_deviations(fit: process.Fit, facts: Sequence[Fact]) -> process.Fit:
    """A fit on fewer facts, with the deviations and weights of the whole one."""
    table = process.tabulate([features.design(f.problem, f.terms) for f in facts])
    sd = {name: fit.sd[name] for name in table.names}
    classes = np.array([features.noise_class(f.problem) for f in facts])
    y = np.array([f.log_speed for f in facts])
    return process.assemble(table, y, classes, np.ones(len(y)), sd, fit.noise)


def _line(rows: Sequence[PredictedLine]) -> str:
    overall = accuracy(rows)
    assert overall is not None
    return (
        f"n={overall.rows} median {overall.median_abs_pct_err:.1f} %, p90"
        f" {overall.p90_abs_pct_err:.1f} %, covered {overall.coverage_90:.2f}"
    )


HEAD = ("| class | sources | rows | median % | 90th percentile % | covered | width |",
        "|---|---|---|---|---|---|---|")  # fmt: skip


def _classes(rows: Sequence[PredictedLine]) -> list[str]:
    """Accuracy of each class of runs, all devices and TPUs alone."""
    lines = list(HEAD)
    for kind in ("training", "offline", "serving", "images"):
        mine = [row for row in rows if calibration.kind(row.problem) == kind]
        tpus = [row for row in mine if row.problem.chip.is_tpu]
        for name, some in ((kind, mine), (f"{kind}, TPU", tpus)):
            overall = accuracy(some)
            if overall is None:
                continue
            sources = len({row.source for row in some})
            width = median((row.predicted.high / row.predicted.low) ** 0.5 for row in some)
            lines.append(
                f"| {name} | {sources} | {overall.rows} | {overall.median_abs_pct_err:.1f} |"
                f" {overall.p90_abs_pct_err:.1f} | {overall.coverage_90:.2f} | × {width:.2f} |"
            )
    faster, cheaper = order(rows)
    for name, named in (("faster", faster), ("cheaper", cheaper)):
        if named.share is not None:
            lines += ["", f"{name}: {100 * named.share:.1f} % of {named.pairs} TPU–GPU pairs right"]
    return lines


def baseline(facts: Sequence[Fact]) -> list[PredictedLine]:
    """The simpler model of a group of facts, each source predicted from the others."""
    judged: list[PredictedLine] = []
    speeds = {id(f): log_speed(f.terms, f.entries[0].value or 1.0) + _plain(f)
              for f in facts}  # fmt: skip
    for fact in facts:
        others = [f for f in facts if f.source != fact.source]
        levels = (
            [f for f in others if _cell(f) == _cell(fact)],
            [f for f in others if f.problem.chip.name == fact.problem.chip.name],
            [f for f in others if f.problem.chip.vendor == fact.problem.chip.vendor],
            others,
        )
        near = next(some for some in levels if some)
        typical = median(speeds[id(f)] for f in near)
        judged += _rows(fact, typical - _plain(fact))
    return judged


def _cell(fact: Fact) -> tuple[str, str]:
    problem = fact.problem
    serves = problem.kind not in {"training", "samples"}
    return problem.chip.name, "" if serves else problem.precision


def _plain(fact: Fact) -> float:
    """log of nominal seconds over those of the data sheet's rates alone."""
    problem, seconds = fact.problem, dict(fact.terms.seconds)
    peak = problem.chip.peak(problem.precision) or 1.0
    if isinstance(problem, Training):
        flops = training.flops_per_token(problem, attention="causal")
        return float(np.log(flops / peak / fact.terms.total_s))
    narrow_only = isinstance(problem, Serving) and problem.weight_only
    precision = "bfloat16" if narrow_only else problem.precision
    used = usual(problem.chip.name, precision) * PROGRAM
    peak_used = problem.chip.peak(precision) or problem.chip.peak_flop_s["bfloat16"]
    ridge = peak_used / problem.chip.hbm_bytes_s
    narrow = problem.shape.experts_speed(ridge) if problem.shape else 1.0
    rates = {"matmul": used, "experts": used * narrow, "attention": ATTENTION, "decode": used,
             "weights": STREAM, "cache": CACHE, "memory": STREAM, "arrival": 1.0}  # fmt: skip
    plain = sum(s * rates[name] for name, s in seconds.items() if name in rates)
    return float(np.log(plain / fact.terms.total_s))


def _rows(fact: Fact, speed: float) -> Iterable[PredictedLine]:
    for entry in fact.entries:
        assert entry.problem is not None and entry.value is not None
        predicted = prediction(entry.problem, physics.terms(entry.problem), speed, 0.0, 0.0)
        yield PredictedLine(line=entry.line, source=entry.source, problem=entry.problem,
                     value=entry.value, predicted=predicted)  # fmt: skip


def _page(judged: Mapping[str, list[PredictedLine]], groups: Facts, date: str) -> list[str]:
    by_source = judged["source"]
    columns = ["| {} | rows | median % | 90th percentile % | covered |", "|---|---|---|---|---|"]
    lines = [
        "# Accuracy of the analytical model",
        "",
        f"Written on {date} by `python benchmarks/estimate_accuracy.py --write`. Absolute error in"
        " percent of the published value; *covered* is the share of rows inside their 90 %"
        " interval, *width* the factor by which its ends lie apart from the middle. Nothing about a"
        " held-out row was used: not its effects, not the deviations, not the calibration of the"
        " intervals. The closed forms, their round constants and the list of effects were revised"
        " with the whole table, and earlier versions of this page, known.",
    ]
    for scheme, rows in judged.items():
        lines += ["", f"## Every {scheme} held out", "", *_classes(rows)]
    lines += ["", "## Against simpler models, whole sources held out", "",
              "| rows | model | rows | median % | 90th percentile % |",
              "|---|---|---|---|---|"]  # fmt: skip
    for group, what in (("training", "one efficiency for each device and precision"),
                        ("serving", "plain roofline, one factor for each device")):  # fmt: skip
        plain = accuracy(baseline(groups[group]))
        ours = accuracy([r for r in by_source if features.group(r.problem) == group])
        for name, overall in ((what, plain), ("this model", ours)):
            assert overall is not None
            lines.append(f"| {group} | {name} | {overall.rows} | {overall.median_abs_pct_err:.1f} |"
                         f" {overall.p90_abs_pct_err:.1f} |")  # fmt: skip
    lines += ["", "## How far sources differ on the same thing", "",
              "One model on one chip in one precision, from two sources or more: each figure"
              " against the mean of the other sources' medians, the closed forms allowing for"
              " sizes.", "",
              "| group | figures | median % | 90th percentile % |",
              "|---|---|---|---|"]  # fmt: skip
    for group, facts in groups.items():
        apart = between_sources(facts)
        lines.append(f"| {group} | {len(apart)} | {np.median(apart):.1f} |"
                     f" {np.quantile(apart, 0.9):.1f} |")  # fmt: skip
    labels: dict[str, Callable[[PredictedLine], str]] = {
        "kind of run": lambda row: row.problem.kind,
        "source": lambda row: row.source,
        "device": lambda row: row.problem.chip.name,
    }
    for title, label in labels.items():
        lines += ["", f"## By {title}, whole sources held out", "", columns[0].format(title),
                  columns[1]]  # fmt: skip
        parts: dict[str, list[PredictedLine]] = defaultdict(list)
        for row in by_source:
            parts[label(row)].append(row)
        lines += [_table_row(name, accuracy(rows)) for name, rows in sorted(parts.items())]
    return lines


def between_sources(facts: Sequence[Fact]) -> list[float]:
    """Percent by which figures differ from what other sources say of the same model, chip and
    precision; no regression is involved."""
    cells: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        p = fact.problem
        cells[p.kind, p.model, p.chip.name, p.precision][fact.source].append(fact.log_speed)
    percents = []
    for sources in cells.values():
        for name, speeds in sources.items():
            others = [median(v) for other, v in sources.items() if other != name]
            if others:
                percents += [100 * abs(np.expm1(s - sum(others) / len(others))) for s in speeds]
    return percents


def _table_row(name: str, overall: Accuracy | None) -> str:
    assert overall is not None
    return (f"| {name} | {overall.rows} | {overall.median_abs_pct_err:.1f} |"
            f" {overall.p90_abs_pct_err:.1f} | {overall.coverage_90:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
