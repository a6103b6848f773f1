"""A store of many facts: what tpubench, DuckDB and pandas take to answer from the same files.

    python benchmarks/store.py [--shape 1000x1000 --shape 10000x10] [--keep FOLDER] [--only show]

Builds a store through the real writer (only fsync is left out), then runs each contender in a
process of its own and prints its seconds of processor time, those by the clock, and its peak
memory: the sum over its processes, looked at every 10 ms. *first* is ours without a cache, *again*
with what the first left. DuckDB and pandas read the same files and check nothing: no digest, no
layout, no recomputed figure. With ``--sealed`` each run has its manifest, and the store is sealed
and verified again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import pyarrow as pa

from tpubench.results import store as facts
from tpubench.results.fingerprint import sha256
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row, arrow_schema, to_table
from tpubench.results.sealing import manifest
from tpubench.results.statistics import within

NAMES = ("output_tok_s", "ttft_s", "tpot_s", "decode_tok_s", "peak_memory_bytes")
DEVICES = (
    *("tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "nvidia-a100-sxm-80gb"),
    *("nvidia-h100-sxm", "nvidia-h200-sxm", "nvidia-b200-sxm", "nvidia-l4", "cpu"),
)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FILTER = {"device": "tpu-v6e", "metric": "ttft_s", "batch": 8}
_SAMPLES = 7
_LOOK_S = 0.01

DUCKDB = """
import duckdb, sys
files = sys.argv[1] + "/*/*.parquet"
c = duckdb.connect()
"""
DUCKDB_OF = {
    "show": DUCKDB
    + "print(len(c.execute(\"select * from read_parquet(?) where device='tpu-v6e' and"
    " metric='ttft_s' and json_extract_string(params, '$.batch')='8'\", [files]).fetchall()))",
    "verify": DUCKDB + "print(c.execute('select count(*), bit_xor(hash(f)) from read_parquet(?) f',"
    " [files]).fetchall())",
    "report": DUCKDB
    + "print(len(c.execute('select workload, preset, params, device, dtype, metric,"
    " count(*), exp(avg(ln(value))), stddev(ln(value)) from read_parquet(?) group by all',"
    " [files]).fetchall()))",
}
PANDAS = """
import glob, json, sys
import pandas as pd
all = pd.concat(pd.read_parquet(f) for f in glob.glob(sys.argv[1] + "/*/*.parquet"))
"""
PANDAS_OF = {
    "show": PANDAS + "some = all[(all.device == 'tpu-v6e') & (all.metric == 'ttft_s')]\n"
    "print((some.params.map(lambda p: json.loads(p)['batch']) == 8).sum())",
    "verify": PANDAS + "print(pd.util.hash_pandas_object(all.drop(columns='samples')).sum())",
    "report": PANDAS + "print(len(all.groupby(['workload', 'preset', 'params', 'device', 'dtype',"
    " 'metric']).value.agg(['count', 'mean', 'std'])))",
}


def build(store: Path, files: int, rows: int, *, sealed: bool) -> None:
    """A store of ``files`` runs with one file of ``rows`` rows each, and each run's manifest where
    they are ``sealed``; both cores work.
    """
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(_write, [(store, range(part, files, 2), rows, sealed) for part in (0, 1)])


def _write(store: Path, numbers: range, rows: int, sealed: bool) -> None:
    rng = random.Random(numbers.start)
    with mock.patch.object(os, "fsync"):  # the disk is not what is measured
        for number in numbers:
            path = facts.write_table(store, "case-000", _rows(rng, number, rows))
            if sealed:
                manifest.close([path])


def _drawn(rng: random.Random, name: str) -> tuple[list[float], float, float | None, float | None]:
    """Samples that no other figure has: equal ones would be called replayed."""
    samples = [rng.lognormvariate(0, 0.05) for _ in range(_SAMPLES)]
    one = within(METRICS[name].aggregate, samples)
    return samples, one.point, one.low, one.high


def _rows(rng: random.Random, number: int, rows: int) -> pa.Table:
    """A run: five metrics of as many repetitions of up to ten cases as make ``rows`` rows."""
    started = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
    device = DEVICES[number % len(DEVICES)]
    batches = BATCHES if rows >= 100 else (BATCHES[number // 10 % 10],)
    repetitions = max(1, rows // len(NAMES) // len(batches))
    environment = {
        "fingerprint": {
            "device": {"name": device, "driver": "575.57"},
            "shape": {"layers": 32, "hidden": 4096, "heads": 32, "vocabulary": 128_256},
            "libraries": {f"library-{i}": f"{i}.{i + 1}.{number % 7}" for i in range(30)},
        },
        "host": f"host-{number % 50}",
        "started": started.isoformat(),
    }
    one = Row(
        schema_version=1,
        run_id=f"{started:%Y%m%dT%H%M%S}-{number:06x}",
        repetition=0,
        started_at=started,
        evidence="measured",
        status="ok",
        reason=None,
        workload="llama-infer",
        workload_version=2,
        preset="llama3-8b",
        params="{}",
        backend="tpu" if device.startswith("tpu") else "cuda",
        device=device,
        chips=1,
        hosts=1,
        parallelism="none",
        dtype="bfloat16",
        metric=NAMES[0],
        unit="",
        better="higher",
        value=1.0,
        ci_low=None,
        ci_high=None,
        samples=None,
        usd_per_chip_hour=None,
        price_id=None,
        price_as_of=None,
        price_sha256=None,
        source="tpubench 1.0.0",
        fingerprint=sha256(environment["fingerprint"]),
        environment=json.dumps(environment),
        git_sha=f"{number // 10:040x}",
        git_dirty=False,
    )
    cells = [(b, r, name) for b in batches for r in range(repetitions) for name in NAMES]
    figures = [_drawn(rng, name) for _, _, name in cells]
    table = to_table([one]).take(pa.array([0] * len(cells)))
    changed: dict[str, list[object]] = {
        "repetition": [r for _, r, _ in cells],
        "params": [
            json.dumps({"batch": b, "prompt": 512, "dtype": "bfloat16"}) for b, _, _ in cells
        ],
        "metric": [name for _, _, name in cells],
        "unit": [METRICS[name].unit for _, _, name in cells],
        "better": [METRICS[name].better for _, _, name in cells],
        "samples": [samples for samples, _, _, _ in figures],
        "value": [value for _, value, _, _ in figures],
        "ci_low": [low for _, _, low, _ in figures],
        "ci_high": [high for _, _, _, high in figures],
    }
    for name, column in changed.items():
        field = arrow_schema().field(name)
        place = table.column_names.index(name)
        table = table.set_column(place, field, pa.array(column, type=field.type))
    return table


def measure(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float, float, int]:
    """Seconds by the clock and of the processors, peak MiB of its processes together, exit code."""
    started, before = time.perf_counter(), _processor_s()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    peak = 0
    while True:
        try:
            child.wait(_LOOK_S)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _rss_kib(child.pid))
    seconds, computed = time.perf_counter() - started, _processor_s() - before
    assert child.stderr is not None
    if child.returncode not in (0, 1):
        print(child.stderr.read().decode()[-2000:], file=sys.stderr)
    return seconds, computed, peak / 1024, child.returncode


def _processor_s() -> float:
    """Seconds that the children that have ended, and theirs, have computed."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _rss_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line), 0)
    return own + sum(_rss_kib(int(each)) for each in children)


def contenders(store: Path, question: str, out: Path) -> list[tuple[str, list[str]]]:
    """Name and command of each."""
    ours = [sys.executable, "-m", "tpubench.cli", question]
    if question == "show":
        ours += [*(f"{key}={value}" for key, value in FILTER.items()), "--json"]
    elif question == "report":
        ours += ["--out", str(out)]
    ours += ["--store", str(store)]
    if question == "seal":
        return [("tpubench", ours)]
    again = [] if question == "verify" else [("tpubench, again", ours)]
    return [
        ("tpubench, first", ours),
        *again,
        ("DuckDB", [sys.executable, "-c", DUCKDB_OF[question], str(store)]),
        ("pandas", [sys.executable, "-c", PANDAS_OF[question], str(store)]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", help="FILESxROWS, rows in each; repeatable")
    parser.add_argument("--only", action="append", choices=[*DUCKDB_OF, "seal"])
    parser.add_argument("--sealed", action="store_true", help="with each run's manifest; seal it")
    parser.add_argument("--contender", action="append", help="start of its name; repeatable")
    parser.add_argument("--keep", type=Path, help="folder to build in, or to use again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        for shape in given.shape or ["1000x1000", "10000x10"]:
            files, rows = map(int, shape.split("x"))
            store = folder / shape
            if not store.exists():
                build(store, files, rows, sealed=given.sealed)
            every = [*DUCKDB_OF, *(["seal", "verify"] if given.sealed else [])]
            for question in given.only or every:
                cache = tempfile.TemporaryDirectory(dir=folder)
                environment = {**os.environ, "XDG_CACHE_HOME": cache.name}
                for label, command in contenders(store, question, folder / "report"):
                    if given.contender and not label.startswith(tuple(given.contender)):
                        continue
                    seconds, computed, peak, code = measure(command, environment)
                    load = os.getloadavg()[0]
                    print(
                        f"{files:6,} x {rows:5,}  {question:7} {label:16} {computed:7.2f} s"
                        f" ({seconds:7.2f} s by the clock) {peak:6,.0f} MiB"
                        f"  exit {code}  load {load:.1f}",
                        flush=True,
                    )
                cache.cleanup()


if __name__ == "__main__":
    main()
