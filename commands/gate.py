"""The regression gate: ab, gate, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Explain, Filters, Json, Store
from tpubench.errors import RunFailedError, UsageError

app = App()

Policy = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Gated metrics, margins and tests; see docs/gate.md."),
]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="FILE", help="Also write Markdown for a pull request."),
]


@app.command()
def ab(
    baseline: Annotated[
        str,
        typer.Option(
            metavar="SIDE",
            help="Interpreter, git revision, 'release', '.', set:K=V, mode:M or backend:B.",
        ),
    ],
    workload: Annotated[str, typer.Option("--workload", "-w", help="Standard program to run.")],
    candidate: Annotated[
        str, typer.Option(metavar="SIDE", help="The same; '.' is the code at hand.")
    ] = ".",
    backend: Annotated[str, typer.Option(help="Backend, or auto for the best present.")] = "auto",
    preset: Annotated[str | None, typer.Option(help="Model or shape preset.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter of both sides."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint: a safetensors folder, or a GGUF file.")
    ] = None,
    compile_mode: Annotated[str | None, typer.Option(help="How both sides compile.")] = None,
    quads: Annotated[
        int | None,
        typer.Option(help="ABBA turns in each pair of processes; 15 if unset, fewer of long ones."),
    ] = None,
    design: Annotated[
        str, typer.Option(help="duet, runs, or auto: as the device allows.")
    ] = "auto",
    cores: Annotated[
        str, typer.Option(metavar="N|all", help="Cores of the CPU that both sides share.")
    ] = "1",
    confirm: Annotated[
        bool, typer.Option(help="An alarm must be proven again by fresh pairs.")
    ] = True,
    policy: Policy = None,
    timeout: Annotated[float, typer.Option(help="Seconds a process may take to answer.")] = 900.0,
    junit: Junit = None,
    markdown: Markdown = None,
    store: Store = None,
    as_json: Json = False,
    explain: Explain = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be compared, and run nothing.")
    ] = False,
) -> None:
    """Baseline and candidate in turns, on this machine, until the difference is proven or not."""
    from tpubench.reports import gate_files
    from tpubench.reports.terminal import gate as terminal_gate
    from tpubench.results.gate import policy as gate_policy
    from tpubench.results.store import default_store
    from tpubench.suite import cores as processor
    from tpubench.suite import processes, request
    from tpubench.suite.duets import ab as contest

    rules = gate_policy.load(policy)
    asked = request.Request(
        workload=workload,
        backend=backend,
        preset=preset,
        overrides=request.overrides(settings or []),
        weights=weights,
        compile_mode=compile_mode,
        timeout_s=timeout,
    )
    processes.adopt_orphans()
    arranged = contest.arrange(
        baseline,
        candidate,
        asked,
        rules,
        design=contest.parse_design(design),
        quads=quads,
        confirm=confirm,
        on_cores=processor.parse(cores),
    )
    if dry_run:
        terminal_gate.show_contest(contest.planned(arranged), as_json=as_json)
        return
    with terminal_gate.watcher(show=not as_json) as watch:
        report = contest.run(arranged, store or default_store(), watch)
    gate_files.write(report, junit=junit, markdown=markdown)
    terminal_gate.show(report, [], as_json=as_json, explain=explain)
    if report.cut_short is not None:
        raise RunFailedError(report.cut_short)
    raise typer.Exit(report.exit_code)


@app.command()
def gate(
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="SELECTOR",
            help="Stored rows: run id, commit, git revision, 'release', column=value, …"
            "  [default: the last release, else the first run]",
        ),
    ] = None,
    candidate: Annotated[str, typer.Option(metavar="SELECTOR", help="The same.")] = "latest",
    confirm: Annotated[
        str | None,
        typer.Option(metavar="SELECTOR", help="Later rows that an alarm must be found in too."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Gated metric; repeatable. [default: the headline and its $ metric]"),
    ] = None,
    policy: Policy = None,
    junit: Junit = None,
    markdown: Markdown = None,
    store: Store = None,
    as_json: Json = False,
    explain: Explain = False,
) -> None:
    """Judge stored rows: 0 ok, 1 regressed, 3 inconclusive, 4 not comparable."""
    from tpubench.reports import gate_files
    from tpubench.reports.terminal import gate as terminal_gate
    from tpubench.results.gate import policy as gate_policy
    from tpubench.results.gate import selected as gate_selected
    from tpubench.results.store import default_store

    rules = gate_policy.declared(gate_policy.load(policy, strict=False), metric or [])
    report, unreadable = gate_selected.gate_selected(
        store or default_store(), baseline, candidate, rules, confirm
    )
    gate_files.write(report, junit=junit, markdown=markdown)
    terminal_gate.show(report, unreadable, as_json=as_json, explain=explain)
    raise typer.Exit(report.exit_code)


@app.command()
def history(
    selectors: Filters = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric to follow; see tpubench list metrics.",
            show_default="the headline of what is stored",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw it to this file.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Follow a metric over stored runs and name the commits where its level changed (advisory)."""
    from tpubench.reports.terminal import history as terminal_history
    from tpubench.results import history as past
    from tpubench.results.gate.policy import HEADLINES
    from tpubench.results.listing import naming
    from tpubench.results.select import narrowed
    from tpubench.results.store import default_store, iter_rows

    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG; give a name that ends in .png")
    rows = narrowed(store or default_store(), selectors or [])
    with naming(rows.unreadable):
        stored = rows.distinct("metric")
        metric = metric or next((name for name in HEADLINES if name in stored), HEADLINES[0])
        if metric in stored:
            rows.keep("metric", [metric])  # nothing else of a large store is read
        series = past.history(iter_rows(rows.read()), metric)
    if out is not None:
        from tpubench.reports import history_png

        history_png.write(series, out)
    terminal_history.show(series, rows.unreadable, as_json=as_json)
