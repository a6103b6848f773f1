"""Every workload on every backend that this machine has: docs/workloads.md and costs/readiness.

    python benchmarks/workload_table.py outcomes.jsonl > docs/workloads.md

``outcomes.jsonl`` has a line for each run of a workload's smallest case on a backend, as
``--run BACKEND`` writes them (xla and tpu in interpreters of their own, on the host's cores):

    python benchmarks/workload_table.py --run cpu >> outcomes.jsonl

The table says of each workload and backend whether all parity checks passed, whether a program of
it goes to libtpu, and how ``tpubench estimate`` knows it. The shares of programs that ran, fell
back or compiled again, and were refused, go to ``costs/readiness/runs.csv``, and published pairs to
``costs/readiness/pairs.csv``.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tpubench.errors import TpubenchError
from tpubench.estimates.request import kind
from tpubench.results.published import TABLE
from tpubench.suite import registry
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.llama.config import PRESETS, train_flops

HERE = Path(__file__).parent
READINESS = HERE.parent / "costs" / "readiness"
FIELDS = ("kind", "device", "software", "model", "value", "why", "source", "date")
PACE = Pace(warm_up_s=0.05, window_s=0.3, most_warm_up_s=0.5, latency_s=0.0)
SMALL: Mapping[str, tuple[str, Mapping[str, list[str]]]] = {
    "gemm": ("square-512", {}),
    "hbm": ("read", {"mib": ["16"]}),
    "h2d": ("pageable", {"mib": ["16"]}),
    "collective": ("all-reduce", {"kib": ["64"]}),
}
"""Presets of workloads that have no ``tiny``."""
SERVED = {"llama-serve"}
"""Runs a server of its own, and is no program of a backend."""
RECOMPILED = ("recompil", "traced again", "graph break")


def smallest(name: str) -> Case:
    workload = registry.workload(name)
    preset, settings = SMALL.get(name, ("tiny", {}))
    settings = {**settings, "dtype": ["float32"]}
    return workload.prepare(workload.cases(preset, settings)[0], Weights())


def names() -> list[str]:
    return [name for name in registry.workloads() if name not in SERVED]


def run(backend: str) -> None:
    """One line for each workload, in this process."""
    from tpubench.suite import child
    from tpubench.suite.job import Job

    lent = registry.backend(backend)
    for name in names():
        workload = registry.workload(name)
        mode, _ = lent.default_mode(trains=workload.trains)
        job = Job(
            backend=backend, compile_mode=mode, case=smallest(name), weights=Weights(),
            pace=PACE, repetition=0,
        )  # fmt: skip
        try:
            outcome = child.execute(job, lambda phase, expected_s: None)
            line: dict[str, Any] = {"status": outcome.status, "reason": outcome.reason}
            line["parity"] = [check["name"] for check in outcome.parity]
            line["versions"] = {k: outcome.description.get(k) for k in ("torch_xla", "torch_tpu")}
        except TpubenchError as error:
            line = {"status": "failed", "reason": str(error)}
        lent.release()
        print(json.dumps({"workload": name, "backend": backend, "mode": mode, **line}), flush=True)


def page(lines: Iterable[Mapping[str, Any]]) -> str:
    """The table, with what was refused under it."""
    by_cell = {(line["workload"], line["backend"]): line for line in lines}
    backends = [b for b in ("cpu", "xla", "tpu") if any(key[1] == b for key in by_cell)]
    heads = {"cpu": "`cpu`", "xla": "`xla`, PJRT CPU", "tpu": "`tpu`, CPU plugin"}
    out = [
        "# Workloads and backends",
        "",
        "Made by `python benchmarks/workload_table.py`. *Parity*: the smallest case ran in the",
        "backend's default mode and all its checks passed; the number is that of the checks. None",
        "of it ran on a TPU or GPU: `xla` and `tpu` are the real libraries on the host's cores.",
        "*Compiled*: `tpubench compile` exports a program of it to libtpu.",
        "*Modelled*: how `tpubench estimate` knows it. –: not run for this table.",
        "",
        f"| workload | {' | '.join(heads[b] for b in backends)} | compiled | modelled |",
        f"|---|{'---|' * (len(backends) + 2)}",
    ]
    notes: list[str] = []
    for name in names():
        cells = [_cell(by_cell.get((name, backend)), notes) for backend in backends]
        case = smallest(name)
        compiled = "yes" if registry.workload(name).phases(case) else "none"
        out.append(f"| `{name}` | {' | '.join(cells)} | {compiled} | {_modelled(name)} |")
    notes = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*out, "", *notes, ""])


def _cell(line: Mapping[str, Any] | None, notes: list[str]) -> str:
    if line is None:
        return "–"
    if line["status"] == "ok":
        return f"parity ({len(line['parity'])})"
    reason = f"`{line['backend']}`: {_without_counts(line['reason'])}"
    if reason not in notes:
        notes.append(reason)
    return f"{line['status']} ({notes.index(reason) + 1})"


def _without_counts(reason: str) -> str:
    if "programs ran for" in reason:
        return "no program of the library ran in a timed phase, so work may have been left out"
    return reason


def _modelled(name: str) -> str:
    workload = registry.workload(name)
    known = kind(workload, workload.default_preset(accelerator=True)[0])
    return "from its FLOPs and bytes" if known == "work" else f"as {known}"


def shares(lines: Iterable[Mapping[str, Any]], today: dt.date) -> list[dict[str, object]]:
    """A row of readiness for each backend: what of the same programs ran."""
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_device.setdefault(line["backend"], []).append(line)
    result = []
    for backend, mine in by_device.items():
        ran = sum(line["status"] == "ok" for line in mine)
        reasons = [line["reason"] or "" for line in mine]
        fell_back = sum("fallback of" in reason for reason in reasons)
        again = sum(any(word in reason for word in RECOMPILED) for reason in reasons)
        versions = {v for line in mine for v in (line.get("versions") or {}).values() if v}
        why = (
            f"of {len(mine)} programs {ran} ran and passed parity, {fell_back} fell back to the"
            f" host, {again} compiled again in the window,"
            f" {len(mine) - ran - fell_back - again} were refused or left work out"
        )
        result.append(
            {
                "kind": "runs",
                "device": "cpu",
                "software": " ".join([backend, *sorted(versions)]),
                "model": "smallest case of every workload",
                "value": round(ran / len(mine), 4),
                "why": why,
                "source": "benchmarks/workload_table.py on the host's cores",
                "date": today.isoformat(),
            }
        )
    return result


def pairs() -> list[dict[str, object]]:
    """PyTorch beside JAX on one chip: Llama-3 8B training on v6e, tokens/s/chip × FLOPs a token."""

    with TABLE.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))

    def rate(software: str, chips: str) -> tuple[float, Mapping[str, str]]:
        for line in table:
            if (
                software in line["software"] and line["device"] == "tpu-v6e"
                and line["metric"] == "train_tok_s" and line["chips"] == chips
                and line["model"].lower().endswith("8b")
            ):  # fmt: skip
                length = int(json.loads(line["params"])["seq_len"])
                each = train_flops(PRESETS["llama-3.1-8b"], 1, length) / length
                return each * float(line["value"]) / int(chips), line
        raise SystemExit(f"no published rate of {software} on {chips} chips")

    torch, one = rate("torchax", "4")
    jax, other = rate("MaxText", "8")
    return [
        {
            "kind": "pair", "device": "tpu-v6e", "software": "torchax + torchtitan",
            "model": "Llama-3-8B", "value": round(torch / jax, 4),
            "why": "FLOP/s a chip in training beside MaxText (JAX) on the same chip: 4 chips and"
            " 4,096 tokens a sequence against 8 chips and 8,192",
            "source": f"{one['source']}; {other['source']}", "date": one["date"],
        }
    ]  # fmt: skip


def write(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    with (READINESS / name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("outcomes", nargs="?", type=Path)
    parser.add_argument("--run", metavar="BACKEND")
    asked = parser.parse_args()
    if asked.run:
        run(asked.run)
        return
    if asked.outcomes is None:
        sys.exit("name the file of outcomes, or --run BACKEND")
    lines = [json.loads(line) for line in asked.outcomes.read_text().splitlines() if line]
    write("runs.csv", shares(lines, dt.datetime.now(dt.UTC).date()))
    write("pairs.csv", pairs())
    sys.stdout.write(page(lines))


if __name__ == "__main__":
    main()
