"""One serving run: the server, every load on it, and the facts, stored as each load ends.

report = execute(make_plan(request), store, observe=print)
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError, interruption
from tpubench.results import fingerprint, store
from tpubench.results.events import Event, Observer, RunReport
from tpubench.results.row import Row
from tpubench.results.sealing import manifest
from tpubench.suite.serving import arrivals, engine, generator, proof, server
from tpubench.suite.serving.endpoint import COMPLETIONS
from tpubench.suite.serving.figures import Figures, figures
from tpubench.suite.serving.load import Ask, Load, Plain
from tpubench.suite.serving.plan import ServingPlan
from tpubench.suite.serving.rows import Measured, ServingContext, case_params, rows


class ServerGoneError(RunFailedError):
    """The server stopped answering while it was measured."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """A server that is up, and what was measured of it so far."""

    plan: ServingPlan
    context: ServingContext
    where: Path
    observe: Observer
    rows: list[Row] = field(default_factory=list)
    done: dict[Load, list[Measured]] = field(default_factory=dict)
    stored: int = 0
    files: list[Path] = field(default_factory=list)
    failed: int = 0
    cores: frozenset[int] | None = None
    """Those of the generator, where the server runs on others of this machine; None: any."""

    def measure(self, load: Load, repetition: int) -> Measured:
        """One repetition of one load, stored. ServerGoneError once it is."""
        total = max(self.stored + 1, len(self.plan.loads) * self.plan.repeats)
        event = Event(
            kind="start",
            case=f"{self.plan.service.name} {load.label()}",
            repetition=repetition,
            done=self.stored,
            total=total,
        )
        self.observe(event)
        started = dt.datetime.now(dt.UTC)
        measured = self._measured(load, repetition)
        self.keep(case_params(load, self.plan.slo), repetition, started, measured)
        self.done.setdefault(load, []).append(measured)
        self.stored += 1
        self.failed += measured.status != "ok"
        self.observe(
            replace(
                event,
                kind="end",
                done=self.stored,
                status=measured.status,
                reason=measured.reason,
            )
        )
        if measured.status == "failed":
            raise ServerGoneError(str(measured.reason))
        return measured

    def keep(
        self,
        params: Mapping[str, Plain],
        repetition: int,
        started: dt.datetime,
        measured: Measured,
    ) -> None:
        """Turn what was measured into rows, and store them."""
        endpoint = self.context.server.endpoint.name
        if endpoint != COMPLETIONS:
            params = {**params, "endpoint": endpoint}
        new_rows = rows(self.context, params, repetition, started, measured)
        self.rows += new_rows
        key = fingerprint.sha256(dict(params))[:12]
        name = f"{self.plan.service.name}-{key}-{repetition:03d}"
        self.files.append(store.write(self.where, name, new_rows))

    def _measured(self, load: Load, repetition: int) -> Measured:
        schedule = drawn(self.plan, load, repetition)
        assert self.plan.generator is not None
        try:
            ran = generator.run(
                self.plan.generator,
                server=self.context.server,
                load=load,
                schedule=schedule,
                timeout_s=self.plan.timeout_s,
                cores=self.cores,
            )
        except RunFailedError as error:
            return Measured(status="failed", reason=str(error))
        proved = proof.prove(load, schedule, ran.answers)
        fault = proved.fault or ran.ended
        if fault is not None:
            gone = self._gone()
            return Measured(
                status="failed" if gone or ran.ended else "invalid",
                reason=f"{gone}; {fault}" if gone and gone != fault else fault,
                proof=proved.facts(),
            )
        return Measured(
            status="ok",
            figures=figures(load, ran.answers, proved, self.plan.slo),
            proof=proved.facts(),
            generator_says=ran.says,
        )

    def _gone(self) -> str | None:
        """That the server answers no more; None while it does."""
        target = self.context.server
        try:
            server.find(target.url, target.model, target.key)
        except (RunFailedError, UsageError):
            return f"{target.url} stopped answering"
        return None


def drawn(plan: ServingPlan, load: Load, repetition: int) -> list[Ask]:
    """Every request of one repetition, with the time of each where the load has a rate."""
    seed = load.seed_of(repetition)
    asks = plan.service.asks(load, seed)
    if load.request_rate is None:
        return asks
    at_s = arrivals.poisson(load.request_rate, len(asks), seed)
    return [replace(ask, at_s=at) for ask, at in zip(asks, at_s, strict=True)]


def execute(plan: ServingPlan, where: Path, observe: Observer) -> RunReport:
    """Run the plan, storing each load as it ends.

    Cut short (by an interruption, a full disk, a server that died) it reports what had ended.
    """
    from tpubench.suite.serving import highest

    store.prepare(where)
    with _opened(plan) as (target, launch):
        bench = _bench(plan, target, launch, where, observe)
        cut_short = None
        notes = [*plan.notes, *_about(target)]
        try:
            if launch:
                _keep_cold_start(bench, launch)
            if plan.searches:
                highest.search(bench)
            else:
                for repetition in range(plan.repeats):
                    for load in plan.loads:
                        bench.measure(load, repetition)
            notes += highest.keep(bench)
        except KeyboardInterrupt as error:
            kept = f"{bench.stored} finished loads are kept in {where / plan.run_id}"
            cut_short = f"{interruption(error)}: {kept}"
        except ServerGoneError as error:
            cut_short = f"{error}; what was measured is kept in {where / plan.run_id}"
        except store.NotStoredError as error:
            cut_short = str(error)
        finally:
            manifest.close(bench.files)
    return RunReport(
        run_id=plan.run_id,
        store=where,
        rows=bench.rows,
        notes=notes,
        # What is looked for lies where some loads miss: only without an answer is that a failure.
        failed=0 if plan.searches and highest.is_answered(bench) else bench.failed,
        cut_short=cut_short,
        missed=None if cut_short else highest.missed(bench),
    )


def _about(target: server.Server) -> list[str]:
    about = [f"server: {target.engine} {target.version or ''}".rstrip()]
    if target.endpoint.name != COMPLETIONS:
        about[0] += f", {target.endpoint.path}"
    if target.key is not None and not target.here and target.url.startswith("http://"):
        about.append("the key went to the server unencrypted: its URL is http://")
    return about


@contextlib.contextmanager
def _opened(plan: ServingPlan) -> Iterator[tuple[server.Server, Mapping[str, Any]]]:
    """The server, started if need be, once it has answered a request."""
    shortest, longest = _extremes(plan)
    if plan.engine is None:
        assert plan.server is not None
        target = server.find(plan.server, plan.model, plan.key)
        if target.max_len is not None and longest > target.max_len:
            raise UsageError(
                f"{target.url} takes {target.max_len} tokens of prompt and answer, the load asks"
                f" for {longest}: give --set input_len=N and output_len=N"
            )
        yield _ready(plan, target, shortest), {}
        return
    began = time.monotonic()
    with engine.started(plan.engine, longest, plan.timeout_s) as (url, launch):
        target = _ready(plan, server.find(url, plan.engine.model), shortest)
        yield target, {**launch, "cold_start_s": time.monotonic() - began}


def _extremes(plan: ServingPlan) -> tuple[int, int]:
    """Tokens of the shortest prompt, and of the longest prompt and answer together."""
    shortest, longest = [], []
    for load in plan.loads:
        asks = plan.service.asks(load, 0)
        shortest.append(min(len(ask.prompt) for ask in asks))
        longest.append(max(len(ask.prompt) + ask.output_len for ask in asks))
    return min(shortest), max(longest)


def _ready(plan: ServingPlan, target: server.Server, shortest: int) -> server.Server:
    """Once a short request of the same kind was answered, whose prompt no load repeats."""
    first = plan.service.asks(replace(plan.loads[0], requests=1, warm_up=0), 0)[0]
    ready = server.ready(target, plan.endpoint, Ask(prompt=first.prompt[:16], output_len=2))
    ready.endpoint.check(shortest)
    return ready


def _bench(
    plan: ServingPlan,
    target: server.Server,
    launch: Mapping[str, Any],
    where: Path,
    observe: Observer,
) -> Bench:
    assert plan.generator is not None, "a plan that is run has a generator"
    context = ServingContext(
        run_id=plan.run_id,
        service=plan.service,
        server=target,
        generator=plan.generator,
        slo=plan.slo,
        device=plan.device,
        chips=plan.chips,
        dtype=plan.dtype,
        price=plan.price,
        git=fingerprint.git_state(Path.cwd()),
        launch=launch,
        power_w=plan.power_w,
    )
    own = None if plan.engine is None else engine.cores(plan.engine)[1]
    return Bench(plan=plan, context=context, where=where, observe=observe, cores=own)


def _keep_cold_start(bench: Bench, launch: Mapping[str, Any]) -> None:
    cold = Figures(samples={"cold_start_s": [launch["cold_start_s"]]}, reasons={})
    now = dt.datetime.now(dt.UTC)
    bench.keep({"load": "start"}, 0, now, Measured(status="ok", figures=cold))
