"""What lies in a store: its Parquet files, and what cannot be looked at, each with the reason."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import DamagedError, TpubenchError
from tpubench.results.regular_file import why

SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file or folder that was left out, and why."""

    path: Path
    error: TpubenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a store, oldest run first, and the folders that could not be looked into.

    Iterating gives the files.
    """

    files: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def __iter__(self) -> Iterator[Path]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def files(store: Path) -> Listing:
    """Everything in a store that is named like a stored file, or the one file given.

    Whatever is not a regular file is listed all the same: reading it says what it is. Links to
    folders are not followed, since they may lead anywhere or in a circle; they are named.
    """
    try:
        status = store.stat()
    except FileNotFoundError:
        return Listing(files=())
    except OSError as error:
        return Listing(files=(), unreadable=(_unreadable(store, why(error)),))
    if not stat.S_ISDIR(status.st_mode):
        return Listing(files=(store,))
    listed: list[Path] = []
    unreadable: list[Unreadable] = []

    def refuse(error: OSError) -> None:
        unreadable.append(_unreadable(Path(os.fsdecode(error.filename)), why(error)))

    for folder, inner, names in os.walk(store, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in inner:
            path = Path(folder, name)
            if path.is_symlink():
                unreadable.append(_unreadable(path, "a link to a folder is not followed"))
            elif name.endswith(SUFFIX):
                listed.append(path)
        listed += [
            Path(folder, name)
            for name in names
            if name.endswith(SUFFIX) and not name.startswith(".")
        ]
    return Listing(files=tuple(sorted(listed)), unreadable=tuple(unreadable))


@contextlib.contextmanager
def naming(unreadable: Sequence[Unreadable]) -> Iterator[None]:
    """An error raised inside also names what was left out, which may well be its cause."""
    try:
        yield
    except TpubenchError as error:
        lines = (*error.left_out, *(str(bad.error) for bad in unreadable))
        error.left_out = tuple(dict.fromkeys(lines))
        raise


def _unreadable(path: Path, reason: str) -> Unreadable:
    return Unreadable(path=path, error=DamagedError(f"{path} cannot be read: {reason}"))
