"""Imported results as stored rows: canonical device, physical chips, one spelling of precision.

A reader of :mod:`tpubench.results.importers` says what a file says. Here its device gets the name
of the device table, slices and half-chip devices become physical chips, and what the command line
states is filled in. Nothing is guessed: an unknown device keeps its own words, and without a chip
count there is no figure per chip.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.precisions import named
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.results import fingerprint
from tpubench.results.figure import SampledValue, Shared, following
from tpubench.results.importers import NO_MODEL, Plain, Record, one_line
from tpubench.results.importers import Figure as Stated
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.summary import IMPORTED

NOT_STATED = "not-stated"
UNKNOWN_DEVICE = "unknown"
CPU = "cpu"
_SERVER = re.compile(
    r"(?P<count>\d{1,5}) ?x ?nvidia (?:dgx|hgx) (?P<chip>a100|h100|h200|b200|b300)\b"
)
_CHIPS_A_SERVER = 8
"""GPUs of an NVIDIA DGX or HGX A100 to B300 system (nvidia.com, data sheets)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line states of an import. It wins over the file."""

    device: str | None = None
    """Any name of a device; a slice name also says how many chips."""
    chips: int | None = None
    """Physical chips."""
    framework_devices: int | None = None
    """Devices as a framework counts them: two to a TPU v7 chip."""
    hosts: int | None = None
    dtype: str | None = None
    model: str | None = None
    source: str | None = None
    date: dt.date | None = None
    params: Mapping[str, Plain] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.chips is not None and self.framework_devices is not None:
            raise UsageError("give --chips or --devices, not both")
        for option, value in (
            ("--chips", self.chips),
            ("--devices", self.framework_devices),
            ("--hosts", self.hosts),
        ):
            if value is not None and not 1 <= value <= 1_000_000:
                raise UsageError(f"{option} {value} is not a count of 1 to 1,000,000")
        if self.device is not None and canonical(self.device) is None and self.device != CPU:
            known = ", ".join(devices())
            raise UsageError(f"--device {self.device!r} is no known device; known: cpu, {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The file behind a row: its format, its name without the folders, its content's SHA-256."""

    format_name: str
    file: str
    sha256: str


def to_rows(
    records: Iterable[Record],
    given: Given,
    origin: Origin,
    *,
    run_id: str,
    now: dt.datetime,
    taken: set[tuple[object, ...]] | None = None,
) -> list[Row]:
    """Every figure of the records as a row with evidence ``published``.

    ``taken`` are the cases that this run already has, and grows: the same case again is a further
    repetition of it.
    """
    taken = set() if taken is None else taken
    rows: list[Row] = []
    for record in records:
        started = record.started_at
        if started is None and given.date is not None:
            started = dt.datetime.combine(given.date, dt.time(), tzinfo=dt.UTC)
        shared = _shared(record, given, origin, run_id, started or now)
        repetition = record.repetition
        case = (shared.workload, shared.preset, fingerprint.canonical_json(dict(shared.params)))
        while (*case, shared.device, shared.chips, shared.dtype, repetition) in taken:
            repetition += 1
        taken.add((*case, shared.device, shared.chips, shared.dtype, repetition))
        shared = replace(shared, repetition=repetition)
        if record.status != "ok":
            name = record.figures[0].metric if record.figures else "output_tok_s"
            rows.append(
                shared.row(
                    METRICS[name], SampledValue(), reason=record.reason, status=record.status
                )
            )
            continue
        for stated in record.figures:
            rows += _figure_rows(shared, stated)
    return rows


def place(record: Record, given: Given) -> tuple[str, int]:
    """Canonical device and physical chips; ``unknown`` and 0 where nobody says."""
    named, counted = record.device, record.chips
    server = _SERVER.search(" ".join((named or "").lower().split()))
    if server is not None:
        named, counted = server["chip"], counted or int(server["count"]) * _CHIPS_A_SERVER
        named = f"hgx-{named}" if canonical(f"hgx-{named}") else named
    if counted is None and named is not None:
        counted = chips_in_slice(named)
    if given.device is not None:
        named = given.device
        counted = chips_in_slice(given.device) or counted
    device = UNKNOWN_DEVICE if named is None else _device(named)
    if given.chips is not None:
        counted = given.chips
    elif given.framework_devices is not None:
        counted = _from_devices(device, given.framework_devices)
    return device, counted or 0


def _device(name: str) -> str:
    device = canonical(name)
    if device is None:
        # A system named after its slice, as in cloud-tpu-v5p-128-maxtext.
        part = re.search(r"v\d[a-z]*|trillium|ironwood", name.lower())
        device = canonical(part[0]) if part and "tpu" in name.lower() else None
    if device is not None:
        return device
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or UNKNOWN_DEVICE


def _from_devices(device: str, count: int) -> int:
    known = devices().get(device)
    if known is None:
        raise UsageError(f"--devices needs a known --device to count chips by, not {device!r}")
    if count % known.devices_per_chip:
        raise UsageError(
            f"--devices {count} is no whole number of {device} chips:"
            f" each shows as {known.devices_per_chip} devices"
        )
    return count // known.devices_per_chip


def precision(text: str | None) -> str:
    """One spelling of a precision; words that are none of the known ones stay as they are."""
    if text is None or not text.strip() or text.strip().upper() == "UNSET":
        return NOT_STATED
    return named(text) or text.strip().lower()


def _shared(
    record: Record, given: Given, origin: Origin, run_id: str, started_at: dt.datetime
) -> Shared:
    device, chips = place(record, given)
    dtype = precision(given.dtype or record.dtype)
    match = {"software": record.software or NOT_STATED, "dtype": dtype, "device": device}
    environment = {
        "fingerprint": match,
        "import": {
            "format": origin.format_name,
            "file": origin.file,
            "sha256": origin.sha256,
            "dated": record.started_at is not None or given.date is not None,
            "device_as_written": record.device,
            "stated": {k: v for k, v in record.stated.items() if v is not None},
        },
    }
    stated = ", ".join(source for source in (given.source, record.source) if source)
    return Shared(
        run_id=run_id,
        started_at=started_at,
        evidence="published",
        workload=record.workload,
        preset=one_line(given.model or record.model) or NO_MODEL,
        params={
            name: _plain(value)
            for name, value in {**record.params, **given.params}.items()
            if value is not None
        },
        backend=IMPORTED,
        device=device,
        chips=chips,
        hosts=given.hosts or record.hosts or 0,
        parallelism=one_line(record.parallelism or NOT_STATED),
        dtype=one_line(dtype),
        source=one_line(
            stated or f"{origin.format_name} file {origin.file}, sha256 {origin.sha256[:12]}"
        ),
        # Without a word of what it ran on, nothing says that two runs may be gated.
        fingerprint=fingerprint.sha256(match) if record.software else None,
        environment=json.dumps(environment, sort_keys=True),
    )


def _plain(value: Plain) -> Plain:
    """Whole numbers as integers, so that 1024.0 and 1024 are one case."""
    return int(value) if isinstance(value, float) and value == int(value) else value


def _figure_rows(shared: Shared, stated: Stated) -> list[Row]:
    metric = METRICS[stated.metric]
    figure = (
        SampledValue.of(metric, stated.samples)
        if stated.samples
        else SampledValue(value=stated.value)
    )
    rows = [shared.row(metric, figure, reason=stated.reason)]
    for derived in (each for each in following(metric.name) if each.per_chip_of):
        if figure.value is None:
            rows.append(shared.row(derived, SampledValue(), reason=stated.reason))
        elif not shared.chips:
            rows.append(
                shared.row(derived, SampledValue(), reason="the number of chips is not stated")
            )
        else:
            each = figure.derived(derived, shared.chips)
            rows.append(shared.row(derived, each, reason=stated.reason))
    return rows
