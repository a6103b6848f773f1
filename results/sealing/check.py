"""A store beside what was sealed of it: what agrees, what does not, and what nobody sealed.

Nothing here is believed that a manifest says of itself. A file counts as covered when its bytes
are those that were sealed; a manifest that no block of the chain holds is compared with the rows
of its files as well, and its rows with those of all others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tpubench.errors import TpubenchError
from tpubench.results import regular_file, store
from tpubench.results.listing import Listing, files
from tpubench.results.parquet_footer import FooterError, read_footer
from tpubench.results.parquet_layout import MAX_FILE_BYTES
from tpubench.results.seal import holds
from tpubench.results.sealing import chain as chains
from tpubench.results.sealing import manifest as manifests
from tpubench.results.sealing import naming, row_seal
from tpubench.results.sealing.chain import Chain
from tpubench.results.sealing.likeness import Likeness, Unread
from tpubench.results.sealing.manifest import Manifest, NoManifestError, SealedFile
from tpubench.results.sealing.naming import Stray, Tampering
from tpubench.results.sealing.row_seal import RowSeal

ROWS_AT_ONCE = 100_000
"""Strays that are named together: each time all that was sealed is read again."""
OPEN_S = 3600.0
"""A run whose files are younger may still be running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCovered:
    """A file that nobody sealed, or a deletion that no block says yet, and why."""

    path: Path
    reason: str


@dataclass(slots=True, kw_only=True)
class SealCheck:
    """What agrees with its seal. pending: manifests that the next block would hold.

    covered: files as they were sealed; chained: those of them that a block of the chain says.
    """

    chain: Chain
    covered: int = 0
    chained: int = 0
    tampered: list[Tampering] = field(default_factory=list)
    not_covered: list[NotCovered] = field(default_factory=list)
    pending: dict[str, list[Path]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.tampered and not self.problems

    @property
    def signed_by(self) -> str | None:
        return self.chain.blocks[-1].signed_by if self.chain.blocks else None


def check(
    folder: Path,
    listing: Listing | None = None,
    *,
    allowed: Path | None = None,
    head: str | None = None,
) -> SealCheck:
    """Compare every file of a store with its seals. UsageError as :func:`.chain.read`.

    head: SHA-256 of a block that was kept elsewhere and must be in the chain.
    """
    listing = files(folder) if listing is None else listing
    chain = chains.read(folder, allowed)
    done = SealCheck(chain=chain, problems=list(chain.problems))
    if head is not None and head not in {block.sha256 for block in chain.blocks}:
        done.problems.append(
            f"no block of {folder} has the SHA-256 {head[:70]}: blocks were taken off the end of"
            " the chain, or written anew"
        )
    by_run: dict[str, list[Path]] = {}
    for path in listing:
        if path.parent.parent == folder:
            by_run.setdefault(path.parent.name, []).append(path)
        else:
            done.not_covered.append(NotCovered(path=path, reason="it lies in no folder of a run"))
    events = chains.pending_events(folder, chain)
    gone = chains.deleted_now([*chain.events, *(event for _, event, _ in events)])
    unsealed = chains.deleted_now([event for _, event, _ in events])
    known = _SealedStore(chain=chain)
    strays: list[Stray] = []
    unread: list[Unread] = []
    for run_id in sorted({*by_run, *chain.runs, *_with_manifests(folder)}):
        present = {path.name: path for path in by_run.get(run_id, [])}
        if run_id in gone and not present:
            if run_id in unsealed:
                reason = "it was deleted since the last seal; the next one records that"
                done.not_covered.append(NotCovered(path=folder / run_id, reason=reason))
            continue
        if run_id in gone:
            detail = "the run was deleted, and lies here again without tpubench runs restore"
            done.tampered.append(Tampering(kind="replayed", where=run_id, detail=detail))
        _Run(folder / run_id, known, done, strays, unread).check(present)
    _name(strays, unread, known, done)
    return done


def _with_manifests(folder: Path) -> Iterator[str]:
    for path in folder.glob(f"*/*{manifests.SUFFIX}"):
        if not path.parent.name.startswith(".") and not path.name.startswith("."):
            yield path.parent.name


@dataclass(slots=True, kw_only=True)
class _SealedStore:
    """Everything that was sealed in a store, read a run at a time. listed: files that agree with
    a manifest that no block holds; their rows may be sealed elsewhere too.
    """

    chain: Chain
    listed: Likeness = field(default_factory=Likeness)

    def in_chain(self, run_id: str) -> Iterator[Manifest]:
        for place in self.chain.runs.get(run_id, ()):
            yield chains.manifest_at(place)

    def rows(self, pending: dict[str, list[Path]]) -> Iterator[tuple[str, str, Sequence[RowSeal]]]:
        for run_id in self.chain.runs:
            for manifest in self.in_chain(run_id):
                yield from _rows(manifest)
        for paths in pending.values():
            for path in paths:
                yield from _rows(manifests.from_line(manifests.read(path)))


def _rows(manifest: Manifest) -> Iterator[tuple[str, str, Sequence[RowSeal]]]:
    if not manifest.replaces:  # rows of merged files have their homes already
        for name, sealed in manifest.files.items():
            yield f"{manifest.run_id}/{name}", _id(manifest), sealed.rows


def _id(manifest: Manifest) -> str:
    return f"{manifest.run_id} {manifest.at}"


@dataclass(slots=True)
class _Run:
    """The files of one run beside its seals."""

    run: Path
    known: _SealedStore
    done: SealCheck
    strays: list[Stray]
    unread: list[Unread]
    sealed: dict[str, SealedFile] = field(default_factory=dict)
    chained: set[str] = field(default_factory=set)
    merged: list[Manifest] = field(default_factory=list)
    listed_in: dict[str, str] = field(default_factory=dict)

    def check(self, present: dict[str, Path]) -> None:
        self._gather()
        replaced = self._replaced()
        what = "file" if self.run.is_dir() else "whole run"
        for name, sealed in self.sealed.items():
            if name in replaced:
                continue
            path = present.pop(name, None)
            if path is not None:
                self._file(path, sealed)
            else:
                self._stray(name, [], sealed.rows, f"the {what}, which was sealed, is gone")
        for name, path in present.items():
            reason = self._why_not(path, merged=name in replaced)
            self.done.not_covered.append(NotCovered(path=path, reason=reason))
            self.unread.append((path, None))

    def _gather(self) -> None:
        """What is sealed of the run; the chain counts for more than a manifest beside the files."""
        for manifest in self.known.in_chain(self.run.name):
            self._add(manifest)
            self.chained |= set(manifest.files)
        for path in manifests.paths(self.run):
            try:
                line = manifests.read(path)
                if chains.sha256(line) in self.known.chain.lines:
                    continue
                manifest = manifests.from_line(line)
            except OSError as error:
                self.done.problems.append(f"{path} cannot be read: {regular_file.why(error)}")
                continue
            except NoManifestError as error:
                self.done.problems.append(f"{path} is no manifest: {error}")
                continue
            if manifest.run_id != self.run.name:
                continue  # a copied folder: what it lists is not covered by it
            twice = set(manifest.files) & set(self.sealed)
            if twice:
                detail = f"{path.name} says otherwise than what was sealed before"
                self._tampered("forged", min(twice), detail)
                continue
            self._add(manifest)
            self.done.pending.setdefault(self.run.name, []).append(path)

    def _add(self, manifest: Manifest) -> None:
        self.sealed |= manifest.files
        self.listed_in |= dict.fromkeys(manifest.files, _id(manifest))
        if manifest.replaces:
            self.merged.append(manifest)

    def _replaced(self) -> set[str]:
        """Files whose rows went into others; each row must have arrived, and no other."""
        replaced: set[str] = set()
        for manifest in self.merged:
            before = set(manifest.replaces) & set(self.sealed) - replaced - set(manifest.files)
            expected = [row for name in sorted(before) for row in self.sealed[name].rows]
            arrived = [row for sealed in manifest.files.values() for row in sealed.rows]
            lacking, more = naming.difference(expected, arrived)
            if lacking or more:
                self._stray(min(manifest.files, default=""), more, lacking)
            replaced |= before
        return replaced

    def _file(self, path: Path, sealed: SealedFile) -> None:
        name = path.name
        try:
            same = manifests.file_sha256(path) == sealed.sha256
        except OSError:
            return  # it is named among what cannot be read
        if same and name in self.chained:
            self.done.covered += 1
            self.done.chained += 1
            return
        try:
            actual = row_seal.of_table(store.load(path))
        except TpubenchError:
            self._tampered("edited", name, "it is not the file that was sealed, nor readable")
            return
        lacking, more = naming.difference(sealed.rows, actual)
        if lacking or more:
            self._stray(name, more, lacking)
        elif not same:
            self._tampered("edited", name, "its rows are those that were sealed, its bytes are not")
        else:
            self.done.covered += 1
            if not any(name in manifest.files for manifest in self.merged):
                self.known.listed.add((path, self.listed_in[name]), actual)

    def _why_not(self, path: Path, *, merged: bool) -> str:
        if merged:
            return "its rows were merged into another file"
        try:
            data = regular_file.read_bounded(path, MAX_FILE_BYTES)
            if holds(data, read_footer(data)) is None:
                return "an earlier tpubench or another tool wrote it, without a seal"
            young = time.time() - path.lstat().st_mtime < OPEN_S
        except (OSError, FooterError):
            return "it cannot be read"
        if self.sealed:
            return "it was put into a run that had been sealed"
        if young:
            return "its run has not ended, or was killed before it was sealed"
        return "its run was killed before it was sealed"

    def _stray(
        self, name: str, rows: list[RowSeal], lacking: list[RowSeal], lost: str | None = None
    ) -> None:
        where = f"{self.run.name}/{name}"
        stray = Stray(where=where, sealed=True, rows=rows, lacking=lacking)
        self.strays.append(stray if lost is None else replace(stray, lost=lost))

    def _tampered(self, kind: naming.Kind, name: str, detail: str) -> None:
        where = f"{self.run.name}/{name}"
        self.done.tampered.append(Tampering(kind=kind, where=where, detail=detail))


def _name(
    strays: list[Stray], unread: Sequence[Unread], known: _SealedStore, done: SealCheck
) -> None:
    """Name what was done to these strays, and which rows of other files have homes elsewhere."""
    if not known.chain.runs and not done.pending:
        return
    lacking = {row.digest for stray in strays for row in stray.lacking}
    for path, listed_in in unread:
        with contextlib.suppress(TpubenchError):  # it is named among what cannot be read
            known.listed.add((path, listed_in), row_seal.of_table(store.load(path)))
    some, left = strays, known.listed.alike(known.rows(done.pending))[::-1]
    while some or left:
        size = sum(len(stray.rows) for stray in some)
        while left and size < ROWS_AT_ONCE:
            path, listed_in = left.pop()
            try:
                rows = row_seal.of_table(store.load(path))
            except TpubenchError:
                continue  # as above
            where = f"{path.parent.name}/{path.name}"
            some.append(Stray(where=where, sealed=False, rows=rows, manifest=listed_in))
            size += len(rows)
        index = naming.index(some, lacking, known.rows(done.pending))
        for stray in some:
            done.tampered += naming.name(stray, index)
        some = []
