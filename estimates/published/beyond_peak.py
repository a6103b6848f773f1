"""Whether a published figure is more than its hardware can do.

Each bound counts only work that cannot be left out, so that what it flags is wrong in its unit, its
number of chips, its precision or its model: 2 FLOPs a matrix parameter and generated token, 6 a
trained token (4 where the base model is frozen), the weights read once a decoding step. Peaks are
dense; a precision without one is held against the device's highest.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tpubench.devices.precisions import PRECISIONS
from tpubench.devices.sheets import DeviceSheet, devices
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.suite import decoders
from tpubench.suite.decoder import Decoder

_TABLE = Path(__file__).with_name("benchmark_work.csv")
_LEAST_BYTES = 0.5
"""Bytes of a weight whose precision is not known: four bits."""
_CACHED = ", unless prompts were cached"
_ALONE = {"", "none", "false", "off", "0"}
"""How files say that no tokens were speculated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Least work of one unit of a rate, and what would excuse less."""

    flop: float
    unless: str = ""


def beyond_peak(row: Row) -> str | None:
    """Why a figure cannot be, as a remark on its row; None when it can, or nobody can tell.

    Nobody can tell without a known device and number of chips, and for work without a known model.
    """
    metric = METRICS.get(row.metric)
    device = devices().get(row.device)
    if metric is None or device is None or row.value is None or row.chips < 1:
        return None
    name = metric.per_chip_of or row.metric
    value = row.value * (row.chips if metric.per_chip_of else 1)
    if name == "mfu":
        return "beyond peak: more than all of the peak FLOP/s" if value > 1 else None
    if name == "bandwidth_bytes_s":
        return _over(value / row.chips, device.hbm_bytes_s, "byte/s", "memory bandwidth", device)
    params = _params(row)
    shape = _shape(row)
    work = _work(name, row, shape, params)
    if work is not None:
        peak, precision = _peak(device, row.dtype)
        why = _over(value * work.flop / row.chips, peak, "FLOP/s", f"{precision} peak", device)
        if why is not None:
            return why + work.unless
    return _faster_than_memory(name, value, row, shape, params, device)


def _params(row: Row) -> Mapping[str, object]:
    params = json.loads(row.params)
    return params if isinstance(params, dict) else {}


def _shape(row: Row) -> Decoder | None:
    """A model of the table, or one whose name states its active parameters: no guess at experts."""
    shape = decoders.find_decoder(row.preset)
    if shape is None or shape.known:
        return shape
    return shape if decoders.parse_size(row.preset)[1] is not None else None


def _work(name: str, row: Row, shape: Decoder | None, params: Mapping[str, object]) -> _Work | None:
    if name == "flop_s":
        return _Work(flop=1.0)
    if name in {"samples_s", "requests_s"}:
        return _sample(row, shape, params)
    if shape is None:
        return None
    if name == "train_tok_s":
        return _Work(flop=_trained(row) * shape.active)
    if name in {"output_tok_s", "decode_tok_s"}:
        return _Work(flop=2 * shape.active)
    if name in {"total_tok_s", "input_tok_s", "prefill_tok_s"}:
        return _Work(flop=2 * shape.active, unless=_CACHED)
    return None


def _sample(row: Row, shape: Decoder | None, params: Mapping[str, object]) -> _Work | None:
    """One sample of a benchmark whose work is known, one sequence, or one reply."""
    tokens = _number(params, "seq_len") if "train" in row.workload else None
    if tokens is not None and shape is not None:
        return _Work(flop=_trained(row) * shape.active * tokens)
    tokens = _number(params, "output_len")
    if row.workload == "mlperf-inference" and "variant" not in params:
        benchmark = _benchmark(row.preset)
        if benchmark is not None and benchmark["flop_per_sample"]:
            return _Work(flop=float(benchmark["flop_per_sample"]))
        if benchmark is not None and tokens is None:
            tokens = float(benchmark["tokens_per_sample"])
    if tokens is None or shape is None or "train" in row.workload:
        return None
    return _Work(flop=2 * shape.active * tokens)


def _trained(row: Row) -> float:
    """FLOPs a parameter and token: forward and backward; frozen weights need no gradient."""
    return 4.0 if "lora" in f"{row.preset} {row.workload}".lower() else 6.0


def _number(params: Mapping[str, object], name: str) -> float | None:
    value = params.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _peak(device: DeviceSheet, dtype: str) -> tuple[float | None, str]:
    stated = device.most(dtype) if dtype == "float32" else device.peak_flop_s.get(dtype)
    if stated is not None:
        return stated, dtype
    return max(device.peak_flop_s.values(), default=None), "highest"


def _faster_than_memory(
    name: str,
    value: float,
    row: Row,
    shape: Decoder | None,
    params: Mapping[str, object],
    device: DeviceSheet,
) -> str | None:
    """Decoding reads a token's weights once a step, whatever the batch shares."""
    if shape is None or device.hbm_bytes_s is None:
        return None
    if str(params.get("speculative", "")).lower() not in _ALONE:
        return None
    precision = PRECISIONS.get(row.dtype)
    weights = shape.active * (precision.bits / 8 if precision else _LEAST_BYTES)
    step_s = weights / (device.hbm_bytes_s * row.chips)
    if name in {"tpot_s", "itl_s"}:
        steps_s = 1 / value if value > 0 else 0.0
    elif name in {"output_tok_s", "decode_tok_s"}:
        together = _number(params, "batch") or _number(params, "concurrency")
        steps_s = value / together if together else 0.0
    else:
        return None
    if steps_s * step_s <= 1:
        return None
    return (
        f"beyond peak: {steps_s:.4g} decoding steps a second of {weights / 1e9:.4g} GB of weights"
        f" are {steps_s * step_s:.3g} × the memory bandwidth of {row.chips} {device.name}, unless"
        " tokens were speculated"
    )


def _over(
    needed: float, peak: float | None, unit: str, what: str, device: DeviceSheet
) -> str | None:
    if peak is None or needed <= peak:
        return None
    return (
        f"beyond peak: needs {needed:.3g} {unit} of a chip, {needed / peak:.3g} × the {what} of"
        f" {device.name}"
    )


def _benchmark(preset: str) -> Mapping[str, str] | None:
    name = re.sub(r"[^a-z0-9]+", "-", preset.lower()).strip("-")
    return next((entry for pattern, entry in _benchmarks() if pattern.fullmatch(name)), None)


@functools.cache
def _benchmarks() -> tuple[tuple[re.Pattern[str], Mapping[str, str]], ...]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple((re.compile(entry["match"]), entry) for entry in csv.DictReader(stream))
