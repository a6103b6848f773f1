"""``tpubench seal``: what runs wrote since the last block, as a further block of the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tpubench.errors import DamagedError, UsageError
from tpubench.results import object_storage
from tpubench.results.listing import files
from tpubench.results.sealing import chain as chains
from tpubench.results.sealing import manifest as manifests
from tpubench.results.sealing import signature
from tpubench.results.sealing.chain import SealedBlock
from tpubench.results.sealing.check import NotCovered, SealCheck, check
from tpubench.results.sealing.naming import Tampering

BLOCK_BYTES = 64 << 20
"""About the most that a block holds, so that sealing needs no more memory than that."""


@dataclass(slots=True, kw_only=True)
class Sealed:
    """What was sealed. left_out: runs that do not agree with their manifests."""

    blocks: list[SealedBlock] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    events: int = 0
    head: str | None = None
    left_out: list[Tampering] = field(default_factory=list)
    not_covered: list[NotCovered] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.left_out


def seal(folder: Path, key: Path | None = None, allowed: Path | None = None) -> Sealed:
    """Chain the manifests of a store that no block holds yet, after checking each of its files.

    key: private key of OpenSSH that signs each block. UsageError for a store without results;
    DamagedError when the chain itself does not hold.
    """
    if key is not None:
        signature.require(key)
    listing = files(folder)
    if not listing:
        raise UsageError(f"there are no results in {folder}")
    checked = check(folder, listing, allowed=allowed)
    if checked.problems:
        raise DamagedError(f"{folder} is not sealed: {checked.problems[0]}")
    done = Sealed(
        head=checked.chain.head, not_covered=checked.not_covered, left_out=checked.tampered
    )
    bad = {tampering.where.partition("/")[0] for tampering in checked.tampered}
    events = chains.pending_events(folder, checked.chain)
    lines = _Lines(checked, bad)
    lines.some = [line for _, _, line in events]
    chain = checked.chain
    while batch := lines.batch():
        block = chains.append(folder, chain, batch, key)
        chain.blocks.append(block)
        done.blocks.append(block)
    if not done.blocks and key is not None and chain.blocks and chain.blocks[-1].signed_by is None:
        done.blocks.append(chains.append(folder, chain, [], key))  # signs all that it follows
    done.runs, done.events = lines.runs, len(events)
    done.head = done.blocks[-1].sha256 if done.blocks else done.head
    for path, _, _ in events:
        path.unlink(missing_ok=True)
        object_storage.remove(path)
    return done


class _Lines:
    """The lines of the blocks to come, so many at a time."""

    def __init__(self, checked: SealCheck, bad: set[str]) -> None:
        self.runs = sorted(set(checked.pending) - bad)
        self.some: list[bytes] = []
        self._rest: Iterator[Path] = iter(
            [path for run_id in self.runs for path in checked.pending[run_id]]
        )

    def batch(self) -> list[bytes]:
        lines, self.some = self.some, []
        size = 0
        for path in self._rest:
            line = manifests.read(path)
            lines.append(line)
            size += len(line)
            if size >= BLOCK_BYTES:
                break
        return lines
