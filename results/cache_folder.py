"""Where caches lie: one folder of the user's, in which each cache has a folder of its own.

    $TPUBENCH_CACHE                     where it is set, else
    $XDG_CACHE_HOME/tpubench            where that is an absolute path, else
    ~/.cache/tpubench

All of it may be deleted at any time: what was in it is computed, compiled or read again.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

VARIABLE = "TPUBENCH_CACHE"


def root() -> Path | None:
    """The folder, which need not exist; None where nothing names one (no home, no variable).

    A relative ``$XDG_CACHE_HOME`` is passed over, as the XDG Base Directory specification says;
    ``$TPUBENCH_CACHE`` is as seen from the working directory.
    """
    given = os.environ.get(VARIABLE)
    try:
        if given:
            return Path(given).expanduser().absolute()
        xdg = Path(os.environ.get("XDG_CACHE_HOME") or "relative").expanduser()
        base = xdg if xdg.is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError:  # a user without a home
        return None
    return base / "tpubench" if base.is_absolute() else None


def usable(path: Path) -> bool:
    """Make a folder for what is run or believed as it is read; whether it can be used for that:
    it is this user's, can be written, and by nobody else.

    One that its group may write, as some systems make all, is taken back from it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
            return False
        if status.st_mode & stat.S_IWGRP:
            path.chmod(0o700)
    except OSError:
        return False
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def size_bytes(path: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile, or may not be read, counts 0."""
    return sum(size for size, _, _ in files(path))


def files(path: Path) -> list[tuple[int, float, str]]:
    """Size, last use in seconds since 1970 and path of each file below a folder, links unfollowed.

    Last use: of reading or writing, whichever the file system knows to be the later.
    """
    held: list[tuple[int, float, str]] = []
    for folder, _, names in os.walk(path, onerror=None):
        for name in names:
            file = os.path.join(folder, name)  # noqa: PTH118 — tens of thousands of them
            try:
                status = os.lstat(file)
            except OSError:
                continue
            held.append((status.st_size, max(status.st_atime, status.st_mtime), file))
    return held
