"""Stored files with bytes flipped, cut and spliced, and things that are no file at all."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from hostile.stored import Base, tail


def flipped(base: Base, rng: random.Random) -> bytes:
    data = bytearray(base.data)
    size = int.from_bytes(data[-8:-4], "little")
    for _ in range(rng.randint(1, 8)):
        first = rng.choice([0, len(data) - 8 - size, len(data) - 64])
        data[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(base: Base, rng: random.Random) -> bytes:
    return base.data[: rng.choice([0, 3, 4, 8, 11, 12, rng.randrange(len(base.data))])]


def spliced(base: Base, rng: random.Random) -> bytes:
    data = base.data
    at, other = sorted(rng.randrange(len(data)) for _ in range(2))
    part = rng.choice([b"", data[at:other] * 2, bytes(other - at), rng.randbytes(other - at)])
    return data[:at] + part + data[other:]


def noise(base: Base, rng: random.Random) -> bytes:
    inner = rng.randbytes(rng.choice([0, 1, 16, 300, 5000]))
    return rng.choice([inner, b"PAR1" + inner + b"PAR1", b"PAR1" + tail(inner), inner + tail(b"")])


def footer_length(base: Base, rng: random.Random) -> bytes:
    size = rng.choice([0, 1, 8, len(base.data), 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(10**5)])
    return base.data[:-8] + size.to_bytes(4, "little") + rng.choice([b"PAR1", b"PARE", b"PAR2"])


def odd(base: Base, rng: random.Random) -> tuple[str, Callable[[Path], None]]:
    def fifo(path: Path) -> None:
        os.mkfifo(path)

    def unix_socket(path: Path) -> None:
        server = socket.socket(socket.AF_UNIX)
        with contextlib.chdir(path.parent), contextlib.closing(server):
            server.bind(path.name)

    def folder(path: Path) -> None:
        path.mkdir()
        (path / "inner.txt").write_text("x")

    def dangling(path: Path) -> None:
        path.symlink_to(path.parent / "nowhere")

    def loop(path: Path) -> None:
        path.symlink_to(path)

    def zero(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def device(path: Path) -> None:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            zero(path)

    def sparse(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(b"PAR1")
            stream.truncate(1 << 42)

    def sparse_with_footer(path: Path) -> None:
        size = int.from_bytes(base.data[-8:-4], "little")
        with path.open("wb") as stream:
            stream.write(base.data[: -8 - size])
            stream.seek(1 << 42)
            stream.write(base.data[-8 - size :])

    makers = (
        fifo, unix_socket, folder, dangling, loop, zero, device, sparse, sparse_with_footer
    )  # fmt: skip
    maker = rng.choice(makers)
    return f"{maker.__name__.replace('_', ' ')}", maker
