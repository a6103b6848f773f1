"""What a run wrote: a list of its files and rows, which it stores beside them as it ends.

``<store>/<run_id>/<time>-<random>.manifest.json`` is one line and is never changed. Each process
lists the files that it wrote itself, so writers need not know of each other. A run that has not
ended, or was killed, has none, and what no manifest lists is *not covered*.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tpubench.errors import TpubenchError
from tpubench.results import regular_file, store
from tpubench.results.sealing import row_seal
from tpubench.results.sealing.row_seal import RowSeal

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SUFFIX = ".manifest.json"
MOST_BYTES = 64 << 20
MOST_ROWS = 100_000
"""Of a manifest, about: more files go into a further one."""
T = TypeVar("T")


class NoManifestError(Exception):
    """Text that is no manifest of a version known here. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """A file as it was written."""

    sha256: str
    rows: list[RowSeal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Files of a run by name. at: UTC, ISO 8601. replaces: files whose rows went into these."""

    schema_version: Literal[1]
    kind: Literal["run"]
    run_id: str
    at: str
    replaces: tuple[str, ...]
    files: dict[str, SealedFile]


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file. OSError when it cannot be read."""
    with regular_file.open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal_of(path: Path) -> SealedFile:
    """A stored file as it lies there. DamagedError when it cannot be read."""
    return SealedFile(sha256=file_sha256(path), rows=row_seal.of_table(store.load(path)))


def close(paths: Iterable[Path], *, split: bool = True) -> None:
    """Seal what this process wrote: a manifest in the folder of each of these files.

    split: with those that rows beyond what one file takes went into.

    Where the disk refuses, or a file is damaged already, its run stays without a manifest, and
    ``tpubench verify`` says so.
    """
    by_run: dict[Path, list[Path]] = {}
    for path in paths:
        by_run.setdefault(path.parent, []).extend(_parts(path) if split else [path])
    for run, own in by_run.items():
        with contextlib.suppress(OSError, TpubenchError):
            some: dict[str, SealedFile] = {}
            for path in own:
                some[path.name] = seal_of(path)
                if sum(len(each.rows) for each in some.values()) >= MOST_ROWS:
                    write(run, some)
                    some = {}
            if some:
                write(run, some)


def _parts(path: Path) -> list[Path]:
    """A file, and those that rows beyond what one file takes went into."""
    parts = [path]
    while (further := path.with_stem(f"{path.stem}-{len(parts) + 1}")).exists():
        parts.append(further)
    return parts


def write(
    folder: Path,
    files: Mapping[str, SealedFile],
    *,
    run_id: str | None = None,
    replaces: Iterable[str] = (),
) -> Path:
    """A new manifest in the folder of a run, on disk when this returns. OSError as it comes.

    run_id: where the folder does not have its name yet.
    """
    now = dt.datetime.now(dt.UTC)
    final = folder / f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}{SUFFIX}"
    manifest = Manifest(
        schema_version=1,
        kind="run",
        run_id=run_id or folder.name,
        at=now.isoformat(),
        replaces=tuple(sorted(replaces)),
        files=dict(files),
    )
    store.write_once(final, to_line(manifest))
    return final


def to_line(manifest: Manifest) -> bytes:
    """One line of JSON; cases, which are long, stand in it once."""
    cases: dict[str, int] = {}
    files = {
        name: {
            "sha256": each.sha256,
            "rows": [(cases.setdefault(row.case, len(cases)), *row[1:]) for row in each.rows],
        }
        for name, each in manifest.files.items()
    }
    document = {
        "schema_version": manifest.schema_version,
        "kind": manifest.kind,
        "run_id": manifest.run_id,
        "at": manifest.at,
        "replaces": manifest.replaces,
        "cases": list(cases),
        "files": files,
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def from_line(line: bytes) -> Manifest:
    """NoManifestError for anything else than a manifest of this version."""
    stored = parsed(_Stored, line)
    if not is_plain(stored.run_id):
        raise NoManifestError(f"{stored.run_id[:60]!r} is no run id")
    files = {}
    for name, each in stored.files.items():
        if not is_plain(name) or not name.endswith(".parquet"):
            raise NoManifestError(f"{name[:60]!r} is no file of a run")
        if any(not 0 <= row[0] < len(stored.cases) for row in each.rows):
            raise NoManifestError("a row is of a case that is not listed")
        rows = [RowSeal(stored.cases[row[0]], *row[1:]) for row in each.rows]
        files[name] = SealedFile(sha256=each.sha256, rows=rows)
    return Manifest(
        schema_version=stored.schema_version,
        kind=stored.kind,
        run_id=stored.run_id,
        at=stored.at,
        replaces=stored.replaces,
        files=files,
    )


def is_plain(name: str) -> bool:
    """Whether it names something right in a folder that a reader looks at."""
    return Path(name).name == name and not name.startswith(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredFile:
    sha256: str
    rows: list[tuple[int, str, int, float | None, str, str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A manifest as it is written: a row names its case by its place in ``cases``."""

    schema_version: Literal[1]
    kind: Literal["run"]
    run_id: str
    at: str
    replaces: tuple[str, ...]
    cases: list[str]
    files: dict[str, _StoredFile]


def parsed(kind: type[T], line: bytes) -> T:
    """JSON as a value of a dataclass. NoManifestError when it is none."""
    from pydantic import TypeAdapter, ValidationError

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        value: T = _ADAPTERS[kind].validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise NoManifestError(" ".join(f"{where} {first['msg']}".split())[:200]) from None
    return value


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def read(path: Path) -> bytes:
    """The line of a manifest. OSError when it cannot be read."""
    return regular_file.read_bounded(path, MOST_BYTES)


def covered(run: Path) -> dict[str, str]:
    """SHA-256 of each file that a manifest beside it lists, by its name."""
    listed: dict[str, str] = {}
    for path in paths(run):
        with contextlib.suppress(OSError, NoManifestError):
            said = from_line(read(path))
            if said.run_id == run.name:
                listed |= {name: each.sha256 for name, each in said.files.items()}
    return listed


def paths(run: Path) -> Sequence[Path]:
    """The manifests of a run, oldest first; what is no regular file is left out."""
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in os.scandir(run) if entry.name.endswith(SUFFIX))
        return [run / name for name in names if not name.startswith(".")]
    return []
