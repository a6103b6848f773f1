"""A stored file is noticed to be damaged wherever a bit of it flips."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sample_rows import make_row

from tpubench.errors import DamagedError
from tpubench.results import seal
from tpubench.results import store as facts
from tpubench.results.row import to_table
from tpubench.results.verify import verify_store


def write(store: Path) -> Path:
    names = ("ttft_s", "tpot_s", "output_tok_s")
    return facts.write(store, "case", [make_row(name, [1.0, 2.0, 3.0]) for name in names])


def test_every_flipped_bit_is_noticed_by_verify_in_every_region_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    chance = random.Random(7)
    regions = [int(len(whole) * part / 200) for part in range(200)]
    places = [*regions, *range(len(whole) - 12, len(whole)), *range(8)]
    at = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    places += range(at - seal.BYTES, at)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        verification = verify_store(tmp_path)
        assert [bad.path for bad in verification.damaged] == [path], f"byte {place} of {len(whole)}"
    path.write_bytes(whole)
    assert verify_store(tmp_path).ok


def test_a_seal_that_was_wiped_out_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    at = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[: at - seal.BYTES] + bytes(seal.BYTES) + whole[at:])
    with pytest.raises(DamagedError, match="its bytes do not match their SHA-256"):
        facts.load(path)


def test_a_file_that_another_tool_wrote_again_is_known_by_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = pq.ParquetFile(path).read()
    pq.write_table(table, path, compression="snappy", row_group_size=1)
    assert facts.load(path).num_rows == 3
    value = table["value"].combine_chunks().to_pylist()
    value[0] += 1.0
    place = table.column_names.index("value")
    edited = table.set_column(place, table.schema.field(place), [value])
    pq.write_table(edited, path)
    with pytest.raises(DamagedError, match="its rows do not match their SHA-256"):
        facts.load(path)


def test_a_digest_of_columns_depends_on_cells_and_not_on_chunks() -> None:
    rows = [make_row(reason=text, samples=s) for text, s in (("a", [1.0]), (None, []), ("", [2.0]))]
    table = to_table(rows)
    digest = seal.columns_sha256(table)
    import pyarrow as pa

    assert seal.columns_sha256(pa.concat_tables([table[:1], table[1:]])) == digest
    assert seal.columns_sha256(pa.concat_tables([table, table])[3:]) == digest
    others = [[*rows[:2], make_row(reason=None, samples=[2.0])], rows[::-1], rows[:2]]
    assert len({digest, *(seal.columns_sha256(to_table(other)) for other in others)}) == 4
