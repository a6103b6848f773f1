"""Judges the analytical model on sources it never saw: ``fit_roofline.py --judge FILE.md``.

For every source the whole fit is repeated without it: effects, deviations and calibration. Two
simpler models are judged on the same rows in the same way: one efficiency for each device and
precision (training), and a plain roofline with one factor for each device (serving).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from tpubench.estimates.problem import Entry
from tpubench.estimates.published.pairs import Judged, order
from tpubench.estimates.published.validate import Accuracy, accuracy
from tpubench.estimates.regression import features, fitting, process
from tpubench.estimates.regression.fitting import Fact
from tpubench.estimates.regression.model import Prediction, prediction
from tpubench.estimates.roofline import serving, training
from tpubench.estimates.roofline.operators import usual
from tpubench.estimates.roofline.terms import ATTENTION, CACHE, PROGRAM, STREAM


def write(path: Path, entries: Sequence[Entry], steps: int, date: str) -> None:
    """The tables of ``docs/estimate-accuracy.md``."""
    groups = fitting.facts(entries)
    schemes = {
        "source": lambda f: f.source,
        "family": lambda f: f.problem.family,
        "random fifth": None,
    }
    judged: dict[str, list[Judged]] = {name: [] for name in schemes}
    with ProcessPoolExecutor(max_workers=2) as pool:
        done: dict[tuple[str, frozenset[int]], Future[list[Judged]]] = {}
        asked: list[tuple[str, str, tuple[str, frozenset[int]]]] = []
        for group, facts in groups.items():
            for scheme, label in schemes.items():
                labels = _fifths(len(facts)) if label is None else [label(f) for f in facts]
                for name in sorted(set(labels)):
                    key = (group, frozenset(i for i, x in enumerate(labels) if x == name))
                    asked.append((scheme, name, key))
                    if key not in done:
                        done[key] = pool.submit(without, group, facts, key[1], steps)
        for scheme, name, key in asked:
            found = done[key].result()
            judged[scheme] += found
            print(key[0], scheme, name, _line(found), file=sys.stderr, flush=True)
    path.write_text("\n".join(_page(judged, groups, date)) + "\n", encoding="utf-8")


def _fifths(count: int) -> list[str]:
    return [str(int(fold) % 5) for fold in fitting.folds(count)]


def without(group: str, facts: Sequence[Fact], out: frozenset[int], steps: int) -> list[Judged]:
    """Predictions of the facts ``out`` by a fit on the others, rows as published."""
    kept = [fact for i, fact in enumerate(facts) if i not in out]
    left = [facts[i] for i in sorted(out)]
    fit = fitting.learn(group, kept, steps=steps)
    calibration = fitting.calibrate(
        fitting.predict_held_out(fit, [fact.source for fact in kept]),
        fitting.predict_held_out(fit, fitting.folds(len(kept))),
    )
    designs = [features.design(fact.problem, fact.terms) for fact in left]
    classes = np.array([features.noise_class(fact.problem) for fact in left])
    classes = np.minimum(classes, len(fit.noise) - 1)
    mean, sd = fit.predict(process.tabulate(designs, fit.table), classes)
    sd = calibration.apply(sd)
    return [
        judged
        for fact, m, s in zip(left, mean, sd, strict=True)
        for judged in _rows(fact, float(m), float(s))
    ]


def _rows(fact: Fact, log_speed: float, sd: float) -> Iterable[Judged]:
    from tpubench.estimates.roofline import physics

    for entry in fact.entries:
        assert entry.problem is not None and entry.value is not None
        made = prediction(entry.problem, physics.terms(entry.problem), log_speed, sd)
        yield Judged(line=entry.line, source=entry.source, problem=entry.problem,
                     value=entry.value, predicted=made)  # fmt: skip


def baseline(facts: Sequence[Fact]) -> list[Judged]:
    """The simpler model of a group of facts, each source predicted from the others."""
    found: list[Judged] = []
    speeds = {id(f): fitting.log_speed(f.terms, f.entries[0].value or 1.0) + _plain(f)
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
        found += _rows(fact, typical - _plain(fact), 0.0)
    return found


def _cell(fact: Fact) -> tuple[str, str]:
    problem = fact.problem
    serves = problem.kind not in {"training", "samples"}
    return problem.chip.name, "" if serves else problem.precision


def _plain(fact: Fact) -> float:
    """log of nominal seconds over those of the data sheet's rates alone."""
    problem, seconds = fact.problem, dict(fact.terms.seconds)
    peak = problem.chip.peak(problem.precision) or 1.0
    if problem.kind == "training":
        flops = training.flops_per_token(problem, attention="causal")
        return float(np.log(flops / peak / fact.terms.total_s))
    precision = "bfloat16" if problem.weight_only else problem.precision
    used = usual(problem.chip.name, precision) * PROGRAM
    peak_used = problem.chip.peak(precision) or problem.chip.peak_flop_s["bfloat16"]
    ridge = peak_used / problem.chip.hbm_bytes_s
    narrow = problem.shape.experts_speed(ridge) if problem.shape else 1.0
    rates = {"matmul": used, "experts": used * narrow, "attention": ATTENTION, "decode": used,
             "weights": STREAM, "cache": CACHE, "memory": STREAM, "arrival": 1.0}  # fmt: skip
    plain = sum(s * rates[name] for name, s in seconds.items() if name in rates)
    return float(np.log(plain / fact.terms.total_s))


def _line(rows: Sequence[Judged]) -> str:
    found = accuracy(rows)
    assert found is not None
    return (
        f"n={found.rows} median {found.median_abs_pct_err:.1f} %, p90"
        f" {found.p90_abs_pct_err:.1f} %, covered {found.coverage_90:.2f}"
    )


def _page(judged: dict[str, list[Judged]], groups: dict[str, list[Fact]], date: str) -> list[str]:
    by_source = judged["source"]
    lines = [
        "# Accuracy of the analytical model",
        "",
        f"Written on {date} by `python benchmarks/fit_roofline.py … --judge`. Absolute error in"
        " percent of the published value; *covered* is the share of rows inside their 90 %"
        " interval. Nothing about a held-out row was used: not its effects, not the deviations,"
        " not the calibration of the intervals. The closed forms, their round constants, the list"
        " of effects and what is expected of them were revised with the whole table, and earlier"
        " versions of this page, known.",
        "",
        "| held out | rows | median % | 90th percentile % | covered |",
        "|---|---|---|---|---|",
    ]
    lines += [_table_row(f"every {name}", accuracy(rows)) for name, rows in judged.items()]
    columns = ["| kind | rows | median % | 90th percentile % | covered |", "|---|---|---|---|---|"]
    lines += ["", "## By kind of run, whole sources held out", "", *columns]
    kinds = sorted({row.problem.kind for row in by_source})
    lines += [_table_row(k, accuracy([r for r in by_source if r.problem.kind == k])) for k in kinds]
    lines += ["", "## By kind of run, random fifths held out", "", *columns]
    at_random = judged["random fifth"]
    lines += [_table_row(k, accuracy([r for r in at_random if r.problem.kind == k])) for k in kinds]
    lines += ["", "## Against simpler models, whole sources held out", "",
              "| rows | model | rows | median % | 90th percentile % |",
              "|---|---|---|---|---|"]  # fmt: skip
    for group, what in (("training", "one efficiency for each device and precision"),
                        ("serving", "plain roofline, one factor for each device")):  # fmt: skip
        plain = accuracy(baseline(groups[group]))
        ours = accuracy([r for r in by_source if features.group(r.problem) == group])
        for name, found in ((what, plain), ("this model", ours)):
            assert found is not None
            lines.append(f"| {group} | {name} | {found.rows} | {found.median_abs_pct_err:.1f} |"
                         f" {found.p90_abs_pct_err:.1f} |")  # fmt: skip
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
    lines += ["", "## The better device of a TPU–GPU pair", "",
              "| question | held out | pairs | named rightly |", "|---|---|---|---|"]  # fmt: skip
    for held_out, rows in (("whole sources", by_source), ("random fifths", at_random)):
        faster, cheaper = order(rows)
        for name, named in (("faster per chip", faster), ("cheaper at list prices", cheaper)):
            share = "–" if named.share is None else f"{100 * named.share:.1f} %"
            lines.append(f"| {name} | {held_out} | {named.pairs} | {share} |")
    labels: dict[str, Callable[[Judged], str]] = {
        "source": lambda row: row.source,
        "device": lambda row: row.problem.chip.name,
    }
    for title, label in labels.items():
        lines += ["", f"## By {title}, whole sources held out", "",
                  f"| {title} | rows | median % | 90th percentile % | covered |",
                  "|---|---|---|---|---|"]  # fmt: skip
        parts: dict[str, list[Judged]] = defaultdict(list)
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
    found = []
    for sources in cells.values():
        for name, speeds in sources.items():
            others = [median(v) for other, v in sources.items() if other != name]
            if others:
                found += [100 * abs(np.expm1(s - sum(others) / len(others))) for s in speeds]
    return found


def _table_row(name: str, found: Accuracy | None) -> str:
    assert found is not None
    return (f"| {name} | {found.rows} | {found.median_abs_pct_err:.1f} |"
            f" {found.p90_abs_pct_err:.1f} | {found.coverage_90:.2f} |")  # fmt: skip


__all__ = ["Prediction", "baseline", "serving", "without", "write"]
