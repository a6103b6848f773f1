"""A good stored file, and its parts: footer and pages, to change and put together again."""

from __future__ import annotations

import datetime as dt
import io
import json
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hostile import thrift_compact as thrift
from hostile.thrift_compact import I32, I64, Struct
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row, to_table
from tpubench.results.statistics import within
from tpubench.results.store import DIGEST_KEY, digest

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 65_536, 10**6, 10**8, 2**31 - 1, -(2**31), 2**40, 2**63 - 1),
    -(2**63),
)
"""Counts that are none."""


def row(metric: str = "output_tok_s", **changes: Any) -> Row:
    """A plausible measured row."""
    known = METRICS[metric]
    samples = changes.pop("samples", [10.0, 11.0, 12.0])
    estimate = within(known.aggregate, samples)
    fields: dict[str, Any] = {
        "schema_version": 1,
        "run_id": "20260102T000000-abcdef",
        "repetition": 0,
        "started_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "evidence": "measured",
        "status": "ok",
        "reason": None,
        "workload": "llama-infer",
        "workload_version": 1,
        "preset": "tiny",
        "params": json.dumps({"batch": 1, "dtype": "bfloat16"}),
        "backend": "cpu",
        "device": "cpu",
        "chips": 1,
        "hosts": 1,
        "parallelism": "none",
        "dtype": "bfloat16",
        "metric": metric,
        "unit": known.unit,
        "better": known.better,
        "value": estimate.point,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "samples": samples,
        "usd_per_chip_hour": None,
        "price_id": None,
        "price_as_of": None,
        "price_sha256": None,
        "source": "tpubench",
        "fingerprint": "f" * 64,
        "environment": json.dumps({"fingerprint": {"shape": {"d_model": 64}, "cpu": "a"}}),
        "git_sha": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
    }
    return Row(**{**fields, **changes})


def rows() -> list[Row]:
    """What a small run stores: two repetitions, a priced figure, one failure."""
    bill = 1e6 * 2.5 / 3600
    stored = []
    for repetition in (0, 1):
        stored += [row(name, repetition=repetition) for name in ("output_tok_s", "ttft_s", "mfu")]
        stored.append(
            row(
                "usd_per_mtok_out",
                repetition=repetition,
                samples=[bill / sample for sample in (10.0, 11.0, 12.0)],
                usd_per_chip_hour=2.5,
                price_id="given",
                price_as_of="2026-01-01",
            )
        )
    failed = {"status": "failed", "value": None, "ci_low": None, "ci_high": None}
    stored.append(row("output_tok_s", repetition=2, reason="killed", **failed))
    return stored


def stored(table: pa.Table, **options: Any) -> bytes:
    """A file of these rows with the digest that a writer would give them."""
    out = io.BytesIO()
    keys = {DIGEST_KEY: digest(table).encode()}
    options = {"compression": "zstd", "write_page_checksum": True, **options}
    pq.write_table(table.replace_schema_metadata(keys), out, **options)
    return out.getvalue()


class Base:
    """The good table and file that mutants are made from, and the file as its parts."""

    def __init__(self) -> None:
        self.table = to_table(rows())
        self.rows = self.table.to_pylist()
        self.data = stored(self.table)
        self.parts = Parts(self.data)


class Parts:
    """A Parquet file taken apart: footer tree, and each column chunk's pages."""

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[-8:-4], "little")
        self.footer, _ = thrift.decode(data[-8 - size : -8])
        self.pages: list[list[tuple[Struct, bytes]]] = []
        for meta in chunks(self.footer):
            at = thrift.get(meta, 11) or thrift.get(meta, 9)
            end = at + thrift.get(meta, 7)
            pages = []
            while at < end:
                header, body = thrift.decode(data, at)
                at = body + thrift.get(header, 3)
                pages.append((header, data[body:at]))
            self.pages.append(pages)

    def whole(self) -> bytes:
        """The file again, offsets and sizes set right."""
        out = bytearray(b"PAR1")
        for meta, pages in zip(chunks(self.footer), self.pages, strict=True):
            start = len(out)
            for header, body in pages:
                if thrift.get(header, 1) == 2 and thrift.get(meta, 11) is not None:
                    thrift.put(meta, 11, I64, len(out))
                elif thrift.get(header, 1) == 0:
                    thrift.put(meta, 9, I64, len(out))
                out += thrift.encode(header) + body
            thrift.put(meta, 7, I64, len(out) - start)
        return bytes(out) + tail(thrift.encode(self.footer))


def tail(footer: bytes) -> bytes:
    """The end of a file: footer, its length, the magic."""
    return footer + (len(footer) & 0xFFFFFFFF).to_bytes(4, "little") + b"PAR1"


def chunks(footer: Struct) -> list[Struct]:
    """Metadata of every column chunk."""
    groups = thrift.get(footer, 4)[1]
    return [thrift.get(column, 3) for group in groups for column in thrift.get(group, 1)[1]]


def sealed(header: Struct, plain: bytes) -> bytes:
    """A page's bytes with its header's sizes and checksum set right."""
    body = bytes(pa.compress(plain, codec="zstd", asbytes=True))
    thrift.put(header, 2, I32, len(plain))
    thrift.put(header, 3, I32, len(body))
    checksum = zlib.crc32(body)
    thrift.put(header, 4, I32, checksum - 2**32 if checksum >= 2**31 else checksum)
    return body


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows, with times as they are stored: comparing must not be what overflows."""
    place = table.column_names.index("started_at")
    return list(
        table.set_column(place, "started_at", table["started_at"].cast(pa.int64())).to_pylist()
    )
