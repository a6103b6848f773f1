"""Files that somebody else left, opened so that nothing waits, runs or is swallowed whole.

Opening a FIFO waits for a writer, opening a device may do anything, and reading a sparse file of
a terabyte fills the memory. So: regular files only, and never more of them than was asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """``path`` for reading. OSError when it cannot be opened or is no regular file."""
    _refuse_odd(path.stat())
    # Without waiting: it may have become a FIFO since.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _refuse_odd(os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """All of a regular file. OSError when it cannot be read, or holds more than ``most`` bytes."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        data = b"" if size > most else stream.read(most + 1)
    if max(size, len(data)) > most:
        raise OSError(
            errno.EFBIG, f"it has {max(size, len(data)):,} bytes, at most {most:,} are read"
        )
    return data


def why(error: OSError) -> str:
    """What is wrong, in words fit for the end of a line."""
    return error.strerror or str(error)


def _refuse_odd(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        name = _KINDS.get(kind, "not a regular file")
        raise OSError(errno.EINVAL, f"it is {name}, not a file")


_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
