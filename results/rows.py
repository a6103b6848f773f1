"""Rows of many files, narrowed column by column before any of them is a Python object.

Rows that are kept from an earlier read (:mod:`.read_cache`) are asked for through DuckDB, which
reads no more of them than it must; those of other files are Arrow tables. Both are narrowed alike:
to rows whose cell of a column is one of some values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.errors import UsageError
from tpubench.results import read_cache
from tpubench.results.listing import Listing, Unreadable
from tpubench.results.read_cache import FILE, ROW, Segment, integers
from tpubench.results.row import arrow_schema
from tpubench.results.store import scan, together

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_PLACE = "tpubench.place"
_IN_SQL = 1000
"""Values that are written into a query; more are a table of their own."""


@dataclass(slots=True, kw_only=True)
class Rows:
    """Rows of files that could be read, and what could not.

    table: rows in memory. kept: rows on disk; their conditions are ``wanted`` and ``matched``.
    """

    table: pa.Table
    unreadable: list[Unreadable]
    kept: duckdb.DuckDBPyConnection | None = None
    wanted: list[tuple[str, list[Any]]] = field(default_factory=list)
    matched: str = ""
    """A join with the lines that rows must agree with."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns that there are."""
        return [name for name in self.table.column_names if name not in {_PLACE, ROW}]

    def distinct(self, column: str) -> list[Any]:
        """The different cells of a column, None among them where one is missing."""
        import pyarrow.compute as pc

        values = dict.fromkeys(pc.unique(self.table[column]).to_pylist())
        if self.kept is not None:
            known = column in arrow_schema().names
            cells = self._asked([column], distinct=True)[column].to_pylist() if known else [None]
            values |= dict.fromkeys(cells)
        return list(values)

    def keep(self, column: str, values: Sequence[Any]) -> None:
        """Leave out rows whose cell is none of these values."""
        import pyarrow.compute as pc

        present = pc.unique(self.table[column])
        meant = [place for place, cell in enumerate(present.to_pylist()) if cell in values]
        mask = pc.is_in(self.table[column], value_set=present.take(integers(meant)))
        self.table = self.table.filter(mask)
        if self.kept is not None:
            if column in arrow_schema().names:
                self.wanted.append((column, list(values)))
            elif None not in values:  # a column of a later version, which kept rows lack
                self.kept = None

    def match(self, lines: pa.Table, column: str, below: str) -> None:
        """Leave out rows that agree with no line in all of the lines' columns but ``below``, and
        those whose ``column`` is not less than ``below`` of their line.

        lines: no two of them agree.
        """
        import duckdb

        same = ", ".join(_quoted(name) for name in lines.column_names if name != below)
        join = f" JOIN lines USING ({same}) WHERE {_quoted(column)} < {_quoted(below)}"
        connection = self.kept or duckdb.connect(":memory:")
        connection.register("lines", lines)
        if self.kept is not None:
            self.matched = join
        names = [name for name in lines.column_names if name != below]
        mine = self.table.select([*names, column])
        mine = mine.append_column(_PLACE, integers(range(mine.num_rows)))
        connection.register("mine", mine)
        ask = f"SELECT {_quoted(_PLACE)} FROM mine{join} ORDER BY ALL"
        self.table = self.table.take(self._answer(ask, [], connection).column(0))

    def __len__(self) -> int:
        count = int(self.table.num_rows)
        if self.kept is not None:
            where, values = self._where()
            ask = f"SELECT count(*) FROM facts{where}"
            count += int(self._answer(ask, values).column(0)[0].as_py())
        return count

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows, in the order of their files; only these columns if any are named."""
        import pyarrow as pa

        names = list(columns or self.columns)
        if self.kept is None:
            return self.table.select(names)
        known = [name for name in names if name in arrow_schema().names]
        kept = self._asked([*known, _PLACE, ROW])
        table = kept
        if self.table.num_rows:
            mine = self.table.select([*names, _PLACE, ROW])
            table = pa.concat_tables([kept, mine], promote_options="default")
        table = table.sort_by([(_PLACE, "ascending"), (ROW, "ascending")])
        for name in names:
            if name not in table.column_names:
                kind = self.table.schema.field(name).type
                table = table.append_column(name, pa.nulls(table.num_rows, kind))
        return table.select(names)

    def ask(self, sql: str, columns: Sequence[str]) -> pa.Table:
        """What DuckDB answers of these rows: the rest of a query after ``WITH selected AS (…)``,
        whose columns are these, times in microseconds.
        """
        import duckdb
        import pyarrow as pa

        listed = ", ".join(_quoted(name) for name in columns)
        mine = self.table.select(columns)
        for place, column in enumerate(mine.schema):
            if pa.types.is_timestamp(column.type):
                mine = mine.set_column(place, column.name, mine[column.name].cast(pa.int64()))
        parts = [f"SELECT {listed} FROM mine"]
        values: list[Any] = []
        if self.kept is None:
            connection = duckdb.connect(":memory:")
        else:
            where, values = self._where()
            connection = self.kept
            parts.append(f"SELECT {listed} FROM facts{where}")
        connection.register("mine", mine)
        query = f"WITH selected AS ({' UNION ALL '.join(parts)}) {sql}"
        return self._answer(query, values, connection)

    def _asked(self, columns: Sequence[str], *, distinct: bool = False) -> pa.Table:
        import pyarrow as pa

        assert self.kept is not None
        where, values = self._where()
        listed = ", ".join(_quoted(name) for name in columns)
        ask = f"SELECT {'DISTINCT ' if distinct else ''}{listed} FROM facts{where}"
        table = self._answer(ask, values)
        ours = arrow_schema()
        fields = [
            ours.field(name) if name in ours.names else table.schema.field(name) for name in columns
        ]
        return table.cast(pa.schema(fields))

    def _answer(
        self,
        ask: str,
        values: Sequence[Any],
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """UsageError where what was kept has gone since it was looked up."""
        import duckdb

        connection = connection or self.kept
        assert connection is not None
        try:
            return connection.sql(ask, params=values).to_arrow_table()
        except duckdb.Error:
            raise UsageError(
                "the rows kept from an earlier read went away meanwhile: run the command again"
            ) from None

    def _where(self) -> tuple[str, list[Any]]:
        import pyarrow as pa

        assert self.kept is not None
        terms, values = [], []
        for number, (column, cells) in enumerate(self.wanted):
            kind = arrow_schema().field(column).type
            if pa.types.is_timestamp(kind):
                cells = pa.array(cells, type=kind).cast(pa.int64()).to_pylist()
                kind = pa.int64()
            name, some = _quoted(column), [cell for cell in cells if cell is not None]
            if len(some) > _IN_SQL:
                self.kept.register(f"values_{number}", pa.table({"v": pa.array(some, type=kind)}))
                term = f"{name} IN (SELECT v FROM values_{number})"
            elif some:
                term = f"{name} IN ({', '.join('?' * len(some))})"
                values += some
            else:
                term = "false"
            terms.append(f"({term} OR {name} IS NULL)" if None in cells else f"({term})")
        joined = self.matched or " WHERE true"
        return f"{joined}{''.join(f' AND {term}' for term in terms)}", values


def rows_of(store: Path, paths: Listing) -> Rows:
    """Every readable row of these files of a store; the store's own files may be known already."""
    known = read_cache.known(store, paths.files)
    if not known.live:
        scanned = scan(paths)
        return Rows(table=scanned.table, unreadable=scanned.unreadable)
    tables, bad = read_cache.read_left(known)
    table = _placed(tables)
    return Rows(
        table=table, unreadable=[*paths.unreadable, *bad], kept=_connect(list(known.live.items()))
    )


def _placed(tables: Sequence[tuple[int, pa.Table]]) -> pa.Table:
    import pyarrow as pa

    parts = []
    for place, table in tables:
        places = integers([place] * table.num_rows)
        numbers = integers(range(table.num_rows))
        parts.append(table.append_column(_PLACE, places).append_column(ROW, numbers))
    if not parts:
        return pa.Table.from_batches([], schema=_placed_schema())
    return together(parts)


def _placed_schema() -> pa.Schema:
    import pyarrow as pa

    return arrow_schema().append(pa.field(_PLACE, pa.int32())).append(pa.field(ROW, pa.int32()))


def _connect(live: Sequence[tuple[Segment, dict[int, int]]]) -> duckdb.DuckDBPyConnection:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        },
    )
    parts = []
    for number, (segment, places) in enumerate(live):
        columns = [integers(places.keys()), integers(places.values())]
        table = pa.Table.from_arrays(columns, names=["number", _PLACE])
        connection.register(f"places_{number}", table)
        path = str(segment.path).replace("'", "''")
        parts.append(
            f"SELECT s.*, p.{_quoted(_PLACE)} FROM read_parquet('{path}') s"
            f" JOIN places_{number} p ON s.{_quoted(FILE)} = p.number"
        )
    connection.execute(f"CREATE VIEW facts AS {' UNION ALL '.join(parts)}")
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
