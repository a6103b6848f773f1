"""MLPerf Training: ``result_*.txt`` logs (MLLOG lines), alone or in a results tree.

Time to train is run start to run stop of a run that reached its target, initialisation left out.
MLPerf scores a benchmark by the mean of several runs with the best and the worst dropped; here
each log is a repetition of its case, and a table's mean is over all of them. Step times come from
the log's own blocks of training, evaluation excluded, where the log says how many steps or samples
a block has; the first block is left out as warm-up where there are three or more.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, parse, plain_files, read_text
from tpubench.results.importers._mlperf import LogPlace, place, round_of, source, system_of
from tpubench.results.importers._names import device_in
from tpubench.results.importers._record import Figure, Imported, Record, Rejected
from tpubench.results.statistics import median

FORMAT = "mlperf-training"
TITLE = "MLPerf Training: result_*.txt, or a results tree"

_MARK = ":::MLLOG "
_MS = 1e-3
_LATEST_MS = 4e12
"""The year 2096: a later time is no time."""


def reads(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(True for _ in _logs(path))
        return _MARK in read_text(path)[:100_000]
    except (UsageError, OSError):
        return False


def read(path: Path) -> Imported:
    """One log, or every ``result_*.txt`` of a tree; UsageError for a log that makes no sense, and
    for a tree without any."""
    if not path.is_dir():
        return Imported(records=(_log(path),))
    records, rejected = [], []
    for log in _logs(path):
        try:
            records.append(_log(log))
        except UsageError as error:
            rejected.append(Rejected(where=str(log.relative_to(path)), reason=str(error)))
    if not records and not rejected:
        raise UsageError(f"{path} holds no result_*.txt")
    return Imported(records=tuple(records), rejected=tuple(rejected))


def _logs(path: Path) -> Iterator[Path]:
    # Submissions have up to some thirty runs of a benchmark.
    for number in range(64):
        yield from plain_files(path, f"result_{number}.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """One MLLOG line. ``time_s`` counts from 1970."""

    kind: str
    key: str
    time_s: float
    node: Node

    def meta(self, key: str) -> float | None:
        """A number of the metadata, None where it is absent or none."""
        metadata = self.node["metadata"]
        value = metadata.value.get(key) if isinstance(metadata.value, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return float(value) if 0 <= value < 1e18 else None


def _log(path: Path) -> Record:
    events = _events(path)
    if not events:
        raise UsageError(f"{path} has no MLLOG line")
    benchmark = _stated(events, "submission_benchmark")
    if benchmark is None:
        raise UsageError(f"{path} names no benchmark (submission_benchmark)")
    starts = [event for event in events if event.key == "run_start"]
    stops = [event for event in events if event.key == "run_stop"]
    if len(starts) != 1 or len(stops) != 1:
        raise UsageError(f"{path} has {len(starts)} run_start and {len(stops)} run_stop, not one")
    took = stops[0].time_s - starts[0].time_s
    if took <= 0:
        raise UsageError(f"{path}: the run stops before it starts")
    status = stops[0].node["metadata"]["status"].text()
    reached = status == "success"
    where = place(path)
    system = system_of(where)
    batch = _number(events, "global_batch_size")
    length = _number(events, "max_sequence_length")
    number = re.fullmatch(r"result_(\d{1,3})\.txt", path.name)
    return Record(
        workload="mlperf-training",
        model=benchmark,
        params={
            "global_batch": batch,
            "seq_len": length,
            "round": round_of(path),
            "division": system.division or _stated(events, "submission_division"),
            "submission": "/".join(
                part
                for part in (_stated(events, "submission_org"), where.system if where else None)
                if part
            ),
        },
        device=system.device or _device(where, _stated(events, "submission_platform")),
        chips=system.chips,
        hosts=system.hosts,
        software=system.software,
        started_at=dt.datetime.fromtimestamp(starts[0].time_s, tz=dt.UTC),
        repetition=int(number[1]) if number else 0,
        source=None if where is None else source(where),
        status="ok" if reached else "invalid",
        reason=None if reached else f"the run ended with status {status}",
        figures=tuple(_figures(events, took, batch, length)) if reached else (),
        stated={
            "submitter": system.submitter or _stated(events, "submission_org"),
            "system": system.name,
            "platform": _stated(events, "submission_platform"),
            "availability": system.availability,
            "train_samples": _number(events, "train_samples"),
        },
    )


def _device(where: LogPlace | None, platform: str | None) -> str | None:
    """Device without a system file: a TPU's system name, which the platform may contradict."""
    if where is not None and re.search(r"tpu|trillium|ironwood", where.system, re.I):
        return where.system
    return platform or (device_in(where.system) if where else None)


def _events(path: Path) -> list[_Event]:
    events = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        mark, _, text = line.partition(_MARK)
        # Launchers put the rank before the mark; text before anything else is no event.
        if not text or len(mark) > 200:
            continue
        node = parse(text.strip(), path, f"line {number}")
        if not isinstance(node.value, dict):
            raise node.error("is not an MLLOG object")
        key, time_ms = node["key"].text(), node["time_ms"].number()
        if key is None or time_ms is None or time_ms > _LATEST_MS:
            raise node.error("has no key or no usable time_ms")
        kind = node["event_type"].text() or ""
        events.append(_Event(kind=kind, key=key, time_s=time_ms * _MS, node=node))
    return events


def _stated(events: Sequence[_Event], key: str) -> str | None:
    for event in events:
        if event.key == key and isinstance(event.node["value"].value, str):
            return event.node["value"].text()
    return None


def _number(events: Sequence[_Event], key: str) -> float | None:
    for event in events:
        if event.key == key:
            return event.node["value"].number()
    return None


def _figures(
    events: Sequence[_Event], took: float, batch: float | None, length: float | None
) -> list[Figure]:
    figures = [Figure(metric="time_to_train_s", value=took)]
    steps = _steps(events, batch, length)
    if not steps or not batch:
        reason = "the log does not say how many steps its blocks of training have"
        return [*figures, Figure(metric="step_time_s", reason=reason)]
    middle = median(steps)
    figures += [
        Figure(metric="step_time_s", samples=steps),
        Figure(metric="samples_s", value=batch / middle, reason="batch ÷ median step time"),
    ]
    if length:
        rate = batch * length / middle
        figures.append(
            Figure(metric="train_tok_s", value=rate, reason="batch × length ÷ median step time")
        )
    return figures


def _steps(
    events: Sequence[_Event], batch: float | None, length: float | None
) -> tuple[float, ...]:
    """Seconds a step in each block of training, by the log's own counts."""
    stamps = [
        value
        for event in events
        if event.key == "tracked_stats" and isinstance(event.node["value"].value, dict)
        if (value := event.node["value"]["train_step_time"].number())
    ]
    if stamps:
        return tuple(stamps)
    times: list[float] = []
    opened: _Event | None = None
    for event in events:
        if event.key == "block_start":
            opened = event
        elif event.key == "block_stop" and opened is not None:
            steps = _block_steps(opened, event, batch, length)
            if steps and event.time_s > opened.time_s:
                times.append((event.time_s - opened.time_s) / steps)
            opened = None
    return tuple(times[1:] if len(times) > 2 else times)


def _block_steps(
    start: _Event, stop: _Event, batch: float | None, length: float | None
) -> float | None:
    """Steps between a block's start and stop; None where the log does not say, or no whole."""
    first, last = start.meta("step_num"), stop.meta("step_num")
    if first is not None and last is not None and last > first:
        return last - first
    first, last = start.meta("samples_count"), stop.meta("samples_count")
    if batch and first is not None and last is not None and last > first:
        return _whole((last - first) / batch)
    tokens = start.meta("epoch_count")
    if batch and length and tokens:
        return _whole(tokens / (batch * length))
    return None


def _whole(steps: float) -> float | None:
    return steps if steps >= 1 and steps == int(steps) else None
