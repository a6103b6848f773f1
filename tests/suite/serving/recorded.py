"""Logs that AIPerf 0.13.0 wrote while it drove the mock server, and the server's own stamps.

``python benchmarks/serve_readback.py --keep FOLDER`` records them anew; the loads are its own.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mock_server import Stamp

from tpubench.suite.serving import arrivals, log
from tpubench.suite.serving.load import Ask, Load
from tpubench.workloads.llama_serve import LlamaServe

HERE = Path(__file__).parent / "recordings"
BASE = Load(shape="tiny", input_len=64, output_len=32, requests=96, warm_up=8, seed=0)
LOADS = {
    "poisson": replace(BASE, request_rate=4.0),
    "closed": replace(BASE, concurrency=4),
    "stall": replace(BASE, request_rate=4.0, seed=1),
}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A load, its schedule, what AIPerf logged, what the server did, and AIPerf's summary."""

    load: Load
    schedule: list[Ask]
    answers: list[log.Answer]
    stamps: list[Stamp]
    """Of the measured requests, in the order in which they came."""
    summary: dict[str, Any]


def schedule_of(load: Load) -> list[Ask]:
    seed = load.seed_of(0)
    asks = LlamaServe().asks(load, seed)
    if load.request_rate is None:
        return asks
    at_s = arrivals.poisson(load.request_rate, len(asks), seed)
    return [replace(ask, at_s=at) for ask, at in zip(asks, at_s, strict=True)]


def text(name: str, what: str) -> bytes:
    return gzip.decompress((HERE / f"{name}.{what}.gz").read_bytes())


def recording(name: str, folder: Path) -> Recording:
    """The recording of that name, its log unpacked into ``folder``."""
    path = folder / "profile_export.jsonl"
    path.write_bytes(text(name, "log.jsonl"))
    load = LOADS[name]
    stamps = [Stamp(**each) for each in json.loads(text(name, "stamps.json"))]
    stamps.sort(key=lambda stamp: stamp.arrived_s)
    return Recording(
        load=load,
        schedule=schedule_of(load),
        answers=log.read(path),
        stamps=stamps[load.warm_up :],
        summary=json.loads(text(name, "summary.json")),
    )
