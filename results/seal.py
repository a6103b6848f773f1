"""What a stored file is sealed with: digests that find an accident, in any byte of it.

The *seal* covers the whole file: 64 bytes between the last page and the footer, where no Parquet
reader looks, hold the SHA-256 of all other bytes. Whoever rewrites the file leaves it out; then the
*digest of the columns* counts, which is kept with the schema and is the same however the rows are
encoded.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tpubench.results.parquet_footer import Footer

if TYPE_CHECKING:
    import pyarrow as pa

HEAD, TAIL = b"tpubench sealed:", b":sealed tpubench"
"""Around the digest: one flipped bit leaves one of them whole."""
BYTES = len(HEAD) + hashlib.sha256().digest_size + len(TAIL)


def sealed(data: bytes) -> bytes:
    """A Parquet file with its seal put in front of its footer."""
    at = _footer_start(data)
    return data[:at] + HEAD + _sha256(data[:at], data[at:]) + TAIL + data[at:]


def holds(data: bytes, footer: Footer) -> bool | None:
    """Whether the whole file is as it was sealed; None for a file without a seal.

    A gap of a seal's size that holds no seal was one, and is damaged.
    """
    at = _footer_start(data)
    start = at - BYTES
    last = max((chunk.end for group in footer.groups for chunk in group), default=4)
    if start < last:
        return None
    mark = data[start:at]
    if start != last and not mark.startswith(HEAD) and not mark.endswith(TAIL):
        return None
    return mark == HEAD + _sha256(data[:start], data[at:]) + TAIL


def columns_sha256(table: pa.Table) -> str:
    """SHA-256 of the columns in the order of their names: which cells are null, then the others."""
    sha = hashlib.sha256()
    for name in sorted(table.column_names):
        sha.update(f"{name}\0{table.num_rows}\0".encode("utf-8", "surrogatepass"))
        _feed(sha, table[name])
    return sha.hexdigest()


def _feed(sha: hashlib._Hash, cells: pa.ChunkedArray) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = cells.type
    _feed_plain(sha, pc.is_valid(cells).cast(pa.uint8()))
    present = cells.drop_null()
    if pa.types.is_list(kind):
        _feed_plain(sha, pc.list_value_length(present))
        _feed(sha, pa.chunked_array([pc.list_flatten(present)], kind.value_type))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        sha.update(b"text")
        _feed_plain(sha, pc.binary_length(present).cast(pa.int64()))
        for chunk in present.cast(pa.large_string()).chunks:
            _, offsets, text = chunk.buffers()
            if text is not None and len(chunk):
                ends = memoryview(offsets).cast("q")
                sha.update(memoryview(text)[ends[chunk.offset] : ends[chunk.offset + len(chunk)]])
    else:
        sha.update(str(kind).encode())
        _feed_plain(sha, present.cast(pa.uint8()) if pa.types.is_boolean(kind) else present)


def _feed_plain(sha: hashlib._Hash, cells: pa.ChunkedArray) -> None:
    """Cells of a fixed width, none of them null."""
    width = cells.type.bit_width // 8
    for chunk in cells.chunks:
        values = chunk.buffers()[1]
        if values is not None:
            sha.update(
                memoryview(values)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
            )


def _footer_start(data: bytes) -> int:
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def _sha256(*parts: bytes) -> bytes:
    sha = hashlib.sha256(HEAD + TAIL)
    for part in parts:
        sha.update(part)
    return sha.digest()
