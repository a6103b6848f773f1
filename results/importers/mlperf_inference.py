"""MLPerf Inference: a round's summary, one ``mlperf_log_summary.txt``, or a tree of submissions.

Server and Interactive rates are what was served while the latency bounds held; Offline is the
rate with all samples queued. Where a file gives tokens a second, they are generated tokens. A
result that MLPerf calls INVALID stays so. In SingleStream and MultiStream the summary gives a 90th
or 99th percentile, which is no median: it is kept as stated, not as a figure. Of a tree, accuracy,
compliance and ranging runs are left out by name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import plain_files, read_text
from tpubench.results.importers._mlperf_log import HEADING, LOG, read_log
from tpubench.results.importers._mlperf_summary import is_summary, read_summary, summary_in
from tpubench.results.importers._mlperf_tree import no_result, outside_of_results
from tpubench.results.importers._record import Imported, Record, Rejected

FORMAT = "mlperf-inference"
TITLE = "MLPerf Inference: summary_results.json, mlperf_log_summary.txt, or a results tree"


def reads(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(True for _ in plain_files(path, LOG)) or summary_in(path) is not None
        if path.suffix.lower() == ".json":
            return is_summary(path)
        return HEADING in read_text(path)[:400]
    except (UsageError, OSError):
        return False


def read(path: Path) -> Imported:
    """Every result of a summary, of one log, or of all logs in a tree; UsageError without any."""
    if path.is_dir():
        logs = list(plain_files(path, LOG))
        if logs:
            return _tree(path, logs)
        summary = summary_in(path)
        if summary is None:
            raise UsageError(f"{path} holds neither {LOG} nor summary_results.json")
        return read_summary(summary)
    if path.suffix.lower() == ".json":
        return read_summary(path)
    return Imported(records=(read_log(path),))


def _tree(root: Path, logs: list[Path]) -> Imported:
    records: list[Record] = []
    rejected: list[Rejected] = []
    same: dict[tuple[object, ...], str] = {}
    submitted = any(not outside_of_results(log, root) for log in logs)
    for log in logs:
        where = str(log.relative_to(root))
        why = no_result(log, root)
        if why is None and submitted and outside_of_results(log, root):
            why = "not under the submission's results"
        if why is not None:
            rejected.append(Rejected(where=where, reason=why))
            continue
        try:
            record = read_log(log, root)
            digest = hashlib.sha256(read_text(log).encode()).digest()
        except UsageError as error:
            rejected.append(Rejected(where=where, reason=str(error)))
            continue
        # A run that also stands for another scenario is one run.
        case = (record.model, *record.params.items(), record.device, digest)
        if case in same:
            rejected.append(Rejected(where=where, reason=f"the same log as {same[case]}"))
            continue
        same[case] = where
        records.append(record)
    return Imported(records=tuple(records), rejected=tuple(rejected))
