"""A store in a bucket: ``--store s3://bucket/folder`` or ``gs://…``, mirrored in a folder here.

Facts are never changed, so a mirror is only ever short of some: opening a store fetches what is new
and drops what is gone, and every command then works on files. What is written goes to the bucket
first, by a conditional write that fails if the name is taken, as a link does in a folder.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results import cache_folder

PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
EXTRAS = {"s3fs": "s3", "gcsfs": "gcs"}
_INDEX = ".objects.json"
"""In the mirror: what each object was when it was fetched, by name."""
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a mirror comes from. root: bucket and folder, without a slash at its end."""

    url: str
    fs: Any
    root: str
    mirror: Path


_OPEN: dict[Path, Bucket] = {}


def is_url(text: str) -> bool:
    return "://" in text


def located(text: str) -> Path:
    """The folder that a store's name means: itself, or the mirror of a bucket, brought up to date.

    UsageError for a protocol that is not known, without the library for it, or where the service
    refuses.
    """
    if not is_url(text):
        return Path(text)
    protocol, _, rest = text.partition("://")
    root = rest.strip("/")
    if protocol not in PROTOCOLS or not root or ".." in root.split("/"):
        raise UsageError(f"--store {text}: a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
    base = cache_folder.root()
    if base is None:
        raise UsageError(f"no home folder to mirror {text} in: set {cache_folder.VARIABLE}")
    mirror = base / "mirrors" / protocol / root
    bucket = Bucket(url=f"{protocol}://{root}", fs=_fs(protocol), root=root, mirror=mirror)
    _fetch(bucket)
    _OPEN[mirror] = bucket
    return mirror


def name_of(store: Path) -> str:
    """What another machine calls a store: its URL, or its absolute path."""
    bucket = _OPEN.get(store)
    return str(store.absolute()) if bucket is None else bucket.url


def of(path: Path) -> tuple[Bucket, str] | None:
    """The bucket that a file of a mirror belongs to, and its key there."""
    for mirror, bucket in _OPEN.items():
        if path.is_relative_to(mirror):
            return bucket, f"{bucket.root}/{path.relative_to(mirror).as_posix()}"
    return None


def put(path: Path, data: bytes) -> None:
    """Have ``data`` in the bucket under the name of a file of a mirror, if that is one.

    FileExistsError when the name is taken, OSError when the service refuses.
    """
    there = of(path)
    if there is None:
        return
    bucket, key = there
    try:
        bucket.fs.pipe_file(key, data, mode="create")
    except FileExistsError:
        raise
    except Exception as error:  # noqa: BLE001 — each service has its own, and most are no OSError
        _refused(error, key)


def probe(store: Path) -> None:
    """Prove that the bucket of a mirror can be written. OSError when it cannot."""
    path = store / f".probe-{secrets.token_hex(4)}"
    put(path, b"tpubench")
    remove(path)


def remove(path: Path) -> None:
    """Take an object away, if the path is in a mirror. OSError when the service refuses."""
    there = of(path)
    if there is not None:
        try:
            there[0].fs.rm_file(there[1])
        except Exception as error:  # noqa: BLE001 — as above
            _refused(error, there[1])


def move(old: Path, new: Path) -> None:
    """Move an object after its file; copied first, so that a stop in between doubles it.

    OSError when the service refuses.
    """
    there = of(new)
    if there is not None:
        put(new, new.read_bytes())
        remove(old)


def _refused(error: Exception, key: str) -> None:
    import errno

    line = " ".join(str(error).split())[:200] or type(error).__name__
    raise OSError(errno.EIO, f"the service refused {key}: {line}") from None


def _fetch(bucket: Bucket) -> None:
    """Bring the mirror up to date."""
    try:
        bucket.fs.invalidate_cache()
        listed = bucket.fs.find(bucket.root, detail=True)
        bucket.mirror.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _index(bucket)
        now: dict[str, list[Any]] = {}
        for key, about in listed.items():
            name = key.removeprefix(f"{bucket.root}/")
            if about.get("type") != "file" or ".." in name.split("/"):
                continue
            state = [about["size"], str(about.get("ETag") or about.get("md5Hash") or "")]
            now[name] = state
            path = bucket.mirror / name
            if before.get(name) != state or not path.exists():
                if about["size"] > _MOST_BYTES:
                    raise UsageError(f"{bucket.url}/{name} has more than {_MOST_BYTES:,} bytes")
                _write(path, bucket.fs.cat_file(key))
        for name in before.keys() - now.keys():
            (bucket.mirror / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (bucket.mirror / name).parent.rmdir()
        _write(bucket.mirror / _INDEX, json.dumps(now).encode())
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 — each service has its own, and most are no OSError
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"cannot read {bucket.url}: {line}") from None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _index(bucket: Bucket) -> Mapping[str, list[Any]]:
    try:
        said = json.loads((bucket.mirror / _INDEX).read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _fs(protocol: str) -> Any:
    library = PROTOCOLS[protocol]
    try:
        importlib.import_module(library)
        fsspec = importlib.import_module("fsspec")
    except ImportError:
        raise UsageError(
            f"{protocol}:// needs {library}: pip install 'tpubench[{EXTRAS[library]}]'"
        ) from None
    return fsspec.filesystem(protocol)
