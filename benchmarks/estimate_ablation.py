"""What each effect of the regression is worth: left out, with everything learned again without it.

    python benchmarks/estimate_ablation.py            prints the tables: an hour on two cores
    python benchmarks/estimate_ablation.py --write    and puts them into docs/estimate-accuracy.md

Sources are divided into four parts. Each part is predicted by a fit on the other three, so that no
deviation was chosen with the predicted sources in view; a source of n facts counts √n. Effects of
one kind are left out together: one by one they stand in for each other.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from fit_estimates import read

from tpubench.estimates.regression import features, fitting, process
from tpubench.estimates.regression.facts import Fact, run
from tpubench.estimates.regression.process import Array, Design

PARTS = 4
MOST = 1.0
"""An error of the logarithm counts at most as much: by a factor of e."""
PAGE = Path(__file__).parents[1] / "docs" / "estimate-accuracy.md"
HEAD = "## What each effect is worth"
AFTER = "## Before"
"""What the page ends with: an earlier model, judged likewise."""
KINDS: Mapping[str, str] = {
    "bias": r"bias",
    "device": r"vendor|generation|chip",
    "precision": r"(vendor-|chip-)?precision",
    "software": r"software(-chip|-precision)?",
    "source": r"source|family",
    "model": r"model(-.*)?",
    "architecture": r"architecture(-.*)?|sparsity",
    "what is not stated": r"stated-.*|laid-out|unknown-shape|lengths",
    "year": r"year.*",
    "configuration": r"config.*|groups",
    "recomputation, tuning": r"remat.*|tuning.*|offload",
    "flags": r"flag-.*",
    "shares of time": r"share-[a-z]+",
    "shares of time by device": r"share-[a-z]+-(chip|vendor)",
    "shares of time by software, precision": r"share-[a-z]+-(software|precision)",
    "sizes": r"width|length|micro|tokens|chips|per-chip",
    "sizes by vendor, software, precision": r"(width|length|micro|tokens|chips)-.*",
    "layout": r"pipeline|bubble|expert|context|slices.*|link-ratio|tensor|tensor-software",
    "smooth functions": r"smooth.*",
    "what is counted": r"counted.*|metric",
    "targets": r"target.*",
    "load": r"batch|inputs|outputs|size",
    "load by vendor, software, device": r"(batch|inputs|outputs|size|tensor)-.*",
    "kind of run": r"kind.*|what.*",
    "scenario": r"scenario.*",
    "quantised cache or weights": r"cache-precision|weight-only",
    "queues": r"queue|burst|flow.*",
}
"""Names of the effects of each kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--date", default=dt.date.today().isoformat())
    given = parser.parse_args()
    lines = [
        HEAD,
        "",
        f"Written on {given.date} by `python benchmarks/estimate_ablation.py --write`. Sources in"
        " four parts, each predicted by a fit on the others; everything learned again without the"
        " effects named. *Error*: change of the mean error of the logarithm, a source of n facts"
        " counting √n; above zero they are worth having. *Median*: of all facts.",
    ]
    for group, facts in read().items():
        lines += ["", *table(group, facts)]
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        before = page[: page.index(HEAD)] if HEAD in page else page + "\n"
        after = page[page.index(AFTER) :] if AFTER in page else ""
        PAGE.write_text(before + "\n".join([*lines, "", after]), encoding="utf-8")


def table(group: str, facts: Sequence[Fact]) -> list[str]:
    """The effects of one group of problems, most valuable first."""
    names = sorted({n for f in facts for n in features.design(f.problem, f.terms)})
    everything = errors(group, facts, lambda name: True)
    base = mean(everything, facts)
    print(f"{group}: all {len(names)} effects, mean error {base:.4f}", flush=True)
    rows = []
    for kind, pattern in KINDS.items():
        out = frozenset(name for name in names if re.fullmatch(pattern, name))
        if not out:
            continue
        without = errors(group, facts, all_but(out))
        worse = 100 * (mean(without, facts) / base - 1)
        middle = 100 * (np.median(np.abs(without)) / np.median(np.abs(everything)) - 1)
        rows.append((worse, f"| {kind} | {len(out)} | {worse:+.1f} % | {middle:+.1f} % |"))
        print(rows[-1][1], flush=True)
    return [
        f"| {group}, left out | effects | error | median |",
        "|---|---|---|---|",
        *(line for _, line in sorted(rows, reverse=True)),
    ]


def all_but(out: Container[str]) -> Callable[[str], bool]:
    """Whether an effect of that name stays."""
    return lambda name: name not in out


def mean(error: Array, facts: Sequence[Fact]) -> float:
    """Mean absolute error of the logarithm, a source of n facts counting √n."""
    weights = process.hold_out(1.0, [fact.source for fact in facts]).weights
    return float(np.average(np.minimum(np.abs(error), MOST), weights=weights))


def errors(group: str, facts: Sequence[Fact], keep: Callable[[str], bool]) -> Array:
    """Error of each fact, predicted by a fit on the parts of the sources that it is not in."""

    def design(fact: Fact) -> Design:
        return {n: c for n, c in features.design(fact.problem, fact.terms).items() if keep(n)}

    part = _parts(facts)
    error = np.empty(len(facts))
    expected = features.expected_sd_of_samples if group == "samples" else features.expected_sd
    for index in range(PARTS):
        known = [f for f in facts if part[f.source] != index]
        rows = [i for i, f in enumerate(facts) if part[f.source] == index]
        fit = process.learn(
            [design(f) for f in known],
            np.array([f.log_speed for f in known]),
            np.array([features.noise_class(f.problem) for f in known]),
            [
                process.hold_out(1.0, [f.source for f in known]),
                process.hold_out(0.7, [run(f) for f in known]),
            ],
            steps=fitting.STEPS,
            expected=expected,
        )
        new = process.tabulate([design(facts[i]) for i in rows], fit.table)
        predicted, _ = fit.predict(new, np.zeros(len(rows), dtype=np.int64))
        error[rows] = [facts[i].log_speed for i in rows] - predicted
    return error


def _parts(facts: Sequence[Fact]) -> dict[str, int]:
    """Sources, largest first, dealt out to the parts."""
    sizes: dict[str, int] = {}
    for fact in facts:
        sizes[fact.source] = sizes.get(fact.source, 0) + 1
    ordered = sorted(sizes, key=lambda source: (-sizes[source], source))
    return {source: i % PARTS for i, source in enumerate(ordered)}


if __name__ == "__main__":
    main()
