"""The chain of a store: blocks of what its runs wrote, each naming the SHA-256 of the one before.

``<store>/.seal/000001.jsonl``: a line that says number, time and predecessor, then a line for each
manifest and for each run that was deleted or restored, as they were when ``tpubench seal`` came by.
``000001.<hash>.sig`` beside it is its signature, if a key was given. Blocks hold the manifests
themselves, so that a manifest that is rewritten afterwards changes nothing. The *head* is the
SHA-256 of the last block: who keeps it elsewhere notices when blocks are taken off the end.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tpubench.errors import UsageError
from tpubench.results import regular_file, store
from tpubench.results.sealing import signature
from tpubench.results.sealing.manifest import (
    MOST_BYTES,
    Manifest,
    NoManifestError,
    from_line,
    is_plain,
    parsed,
)

FOLDER = ".seal"
_PENDING = ".event.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEvent:
    """A run that a command took out of the store, or put back. id: of this event alone."""

    schema_version: Literal[1]
    kind: Literal["deleted", "restored"]
    run_id: str
    at: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    schema_version: Literal[1]
    kind: Literal["block"]
    number: int
    at: str
    previous: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    kind: Literal["run", "deleted", "restored"]
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBlock:
    """signed_by: an allowed signer, or the fingerprint of a key that nobody vouches for."""

    number: int
    sha256: str
    at: str
    signed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPlace:
    """Where the line of a manifest stands."""

    path: Path
    offset: int
    bytes: int


@dataclass(slots=True, kw_only=True)
class Chain:
    """What the blocks of a store say. problems: sentences. lines: SHA-256 of each."""

    blocks: list[SealedBlock] = field(default_factory=list)
    runs: dict[str, list[ManifestPlace]] = field(default_factory=dict)
    events: list[StoreEvent] = field(default_factory=list)
    lines: set[bytes] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def head(self) -> str | None:
        return self.blocks[-1].sha256 if self.blocks else None


def read(folder: Path, allowed: Path | None = None) -> Chain:
    """Every block of a store in order, as far as they follow from each other.

    allowed: file of allowed signers, who must have signed the last block; those before it follow
    from it. UsageError when that file cannot be read.
    """
    if allowed is not None and not allowed.is_file():
        raise UsageError(f"{allowed} is no file of allowed signers")
    chain = Chain()
    for number, path in enumerate(sorted((folder / FOLDER).glob("*.jsonl")), start=1):
        if path.name != f"{number:06}.jsonl":
            chain.problems.append(f"{path}: block {number} of the chain is missing before it")
            break
        try:
            _add(chain, number, path, allowed)
        except OSError as error:
            chain.problems.append(f"{path} cannot be read: {regular_file.why(error)}")
            break
        except NoManifestError as error:
            chain.problems.append(f"{path} is no block of a chain: {error}")
            break
    if allowed is not None:
        if not chain.blocks:
            chain.problems.append(f"{folder} has no signed chain")
        elif chain.blocks[-1].signed_by is None:
            chain.problems.append(
                f"block {len(chain.blocks)}, the last of the chain, is not signed by an allowed"
                " signer"
            )
    return chain


def _add(chain: Chain, number: int, path: Path, allowed: Path | None) -> None:
    sha = hashlib.sha256()
    offset = 0
    head: _Head | None = None
    with regular_file.open_regular(path) as stream:
        while line := stream.readline(MOST_BYTES):
            sha.update(line)
            if head is None:
                head = parsed(_Head, line)
            else:
                _line(chain, line, ManifestPlace(path=path, offset=offset, bytes=len(line)))
            offset += len(line)
    if head is None or head.number != number:
        raise NoManifestError("it does not say its number")
    if head.previous != chain.head:
        chain.problems.append(f"{path} does not follow from the block before it")
    whole = sha.hexdigest()
    signed_by = _signer(chain, path, whole, allowed)
    chain.blocks.append(SealedBlock(number=number, sha256=whole, at=head.at, signed_by=signed_by))


def _line(chain: Chain, line: bytes, place: ManifestPlace) -> None:
    kind = parsed(_Kind, line)
    chain.lines.add(sha256(line))
    if not is_plain(kind.run_id):
        raise NoManifestError(f"{kind.run_id[:60]!r} is no run id")
    if kind.kind == "run":
        chain.runs.setdefault(kind.run_id, []).append(place)
    else:
        chain.events.append(parsed(StoreEvent, line))


def _signer(chain: Chain, path: Path, sha256: str, allowed: Path | None) -> str | None:
    """What is signed is the block's SHA-256, as a line."""
    beside = _signature_of(path, sha256)
    if not beside.is_file():
        if list(path.parent.glob(f"{path.stem}.*.sig")):
            chain.problems.append(f"{path} is not the block that was signed")
        return None
    message = _message(sha256)
    try:
        if allowed is not None:
            return signature.signer(message, beside, allowed)
        return signature.key_of(message, beside)
    except signature.NotSignedError as error:
        chain.problems.append(f"{beside}: {error}")
        return None


def sha256(line: bytes) -> bytes:
    """By which a line is known to be in the chain."""
    return hashlib.sha256(line).digest()


def manifest_at(place: ManifestPlace) -> Manifest:
    """OSError or NoManifestError when it has gone since it was looked up."""
    with regular_file.open_regular(place.path) as stream:
        stream.seek(place.offset)
        return from_line(stream.read(place.bytes))


def covered(chain: Chain, run_id: str) -> dict[str, str]:
    """SHA-256 of each file that the chain lists of a run, by its name."""
    listed: dict[str, str] = {}
    for place in chain.runs.get(run_id, ()):
        listed |= {name: each.sha256 for name, each in manifest_at(place).files.items()}
    return listed


def pending_events(folder: Path, chain: Chain) -> list[tuple[Path, StoreEvent, bytes]]:
    """What was deleted and restored since the last block, oldest first."""
    pending = []
    known = {event.id for event in chain.events}
    for path in sorted((folder / FOLDER).glob(f"*{_PENDING}")):
        with contextlib.suppress(OSError, NoManifestError):
            line = regular_file.read_bounded(path, 1 << 16)
            event = parsed(StoreEvent, line)
            if event.id not in known:
                pending.append((path, event, line))
    return pending


def record(folder: Path, kind: Literal["deleted", "restored"], run_id: str) -> None:
    """Have the next block say that a run was deleted or restored on purpose.

    A store without a chain needs no such word. OSError as the disk refuses.
    """
    if not list((folder / FOLDER).glob("*.jsonl")):
        return
    now = dt.datetime.now(dt.UTC)
    event = {
        "schema_version": 1,
        "kind": kind,
        "run_id": run_id,
        "at": now.isoformat(),
        "id": secrets.token_hex(8),
    }
    name = f"{now:%Y%m%dT%H%M%S%f}-{event['id']}{_PENDING}"
    store.write_once(folder / FOLDER / name, _json_line(event))


def append(folder: Path, chain: Chain, lines: Sequence[bytes], key: Path | None) -> SealedBlock:
    """A further block of these lines, on disk when this returns.

    UsageError when it cannot be signed, or when another block was appended meanwhile.
    """
    number = len(chain.blocks) + 1
    now = dt.datetime.now(dt.UTC).isoformat()
    head = {
        "schema_version": 1,
        "kind": "block",
        "number": number,
        "at": now,
        "previous": chain.head,
    }
    data = b"".join((_json_line(head), *lines))
    path = folder / FOLDER / f"{number:06}.jsonl"
    whole = hashlib.sha256(data).hexdigest()
    beside = _signature_of(path, whole)
    try:
        if key is not None:
            store.write_once(beside, signature.sign(_message(whole), key))
        store.write_once(path, data)
    except FileExistsError:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{folder} was sealed by somebody else meanwhile: run it again") from None
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"cannot seal {folder}: {regular_file.why(error)}") from None
    signed_by = None if key is None else signature.key_of(_message(whole), beside)
    return SealedBlock(number=number, sha256=whole, at=now, signed_by=signed_by)


def _signature_of(path: Path, sha256: str) -> Path:
    return path.with_name(f"{path.stem}.{sha256[:16]}.sig")


def _message(sha256: str) -> bytes:
    return f"tpubench store block {sha256}\n".encode("ascii")


def _json_line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def deleted_now(events: Sequence[StoreEvent]) -> set[str]:
    """Runs whose last event took them away."""
    gone: dict[str, bool] = {}
    for event in events:
        gone[event.run_id] = event.kind == "deleted"
    return {run_id for run_id, deleted in gone.items() if deleted}
