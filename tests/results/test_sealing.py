"""What is done to sealed facts is named; what nobody sealed is called neither ok nor forged."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tampering
from sample_rows import make_row

from tpubench.errors import DamagedError, UsageError
from tpubench.results import labels, runs
from tpubench.results import store as facts
from tpubench.results.compact import compact
from tpubench.results.merge import merge
from tpubench.results.sealing import chain, manifest
from tpubench.results.sealing.check import SealCheck, check
from tpubench.results.sealing.seal_store import seal
from tpubench.results.verify import verify_store

TIMES = 3
MANY = 50
"""Of each kind, by make nightly."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the disk is tested here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys"), "owner")


def new_key(folder: Path, name: str) -> Path:
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True
    )
    allowed = path.with_suffix(".allowed")
    allowed.write_text(f"{name}@example.org {path.with_suffix('.pub').read_text()}")
    return path


def sealed_store(store: Path, seed: int, key: Path | None = None) -> random.Random:
    chance = random.Random(seed)
    tampering.build(store, chance)
    seal(store, key)
    return chance


def kinds(seal_check: SealCheck) -> set[str]:
    return {each.kind for each in seal_check.tampered}


def named(tmp_path: Path, attack: str, times: int) -> None:
    """Tampers with a store as often as that; each time verify must say what was done, and where."""
    do, expected = tampering.ATTACKS[attack]
    for seed in range(times):
        store = tmp_path / str(seed)
        chance = sealed_store(store, seed)
        where = do(store, chance)
        seal_check = check(store)
        assert not seal_check.ok, f"{attack}, seed {seed}: nothing was named"
        assert kinds(seal_check) <= expected, f"{attack}, seed {seed}: {seal_check.tampered}"
        assert next(iter(expected)) in kinds(seal_check) or kinds(seal_check) & expected
        assert any(each.where.startswith(where) for each in seal_check.tampered), (
            seal_check.tampered
        )
        assert all(each.rows for each in seal_check.tampered if each.kind != "forged")
        shutil.rmtree(store)


@pytest.mark.parametrize("attack", tampering.ATTACKS)
def test_tampering_of_a_chained_store_is_named(attack: str, tmp_path: Path) -> None:
    named(tmp_path, attack, TIMES)


@pytest.mark.nightly
@pytest.mark.parametrize("attack", tampering.ATTACKS)
def test_many_tamperings_of_a_chained_store_are_named(attack: str, tmp_path: Path) -> None:
    named(tmp_path, attack, MANY)


def test_a_store_that_was_left_alone_is_whole(tmp_path: Path, key: Path) -> None:
    sealed_store(tmp_path, 1, key)
    seal_check = check(tmp_path, allowed=key.with_suffix(".allowed"))
    assert seal_check.ok and not seal_check.not_covered
    assert (seal_check.covered, seal_check.chained) == (9, 9)
    assert seal_check.signed_by == "owner@example.org"
    assert check(tmp_path).signed_by is not None and "SHA256:" in str(check(tmp_path).signed_by)


def test_without_a_chain_the_manifests_of_the_runs_count(tmp_path: Path) -> None:
    """As long as nobody rewrites those as well: then a chain is needed."""
    chance = random.Random(3)
    tampering.build(tmp_path, chance)
    seal_check = check(tmp_path)
    assert seal_check.ok and (seal_check.covered, seal_check.chained) == (9, 0)
    tampering.rescale(tmp_path, chance)
    assert kinds(check(tmp_path)) == {"rescaled"}
    assert not seal(tmp_path).ok, "what does not agree with its manifest is not chained"


def rebuilt(store: Path, chance: random.Random) -> None:
    """All that one can do without the key: files, manifests and blocks written anew."""
    tampering.edit_with_manifest(store, chance)
    shutil.rmtree(store / chain.FOLDER)
    seal(store)


def taken_off_the_end(store: Path, chance: random.Random) -> None:
    for path in (store / chain.FOLDER).glob("000002*"):
        path.unlink()


def taken_out_of_the_middle(store: Path, chance: random.Random) -> None:
    for path in (store / chain.FOLDER).glob("000001*"):
        path.unlink()


def edited_block(store: Path, chance: random.Random) -> None:
    path = store / chain.FOLDER / "000002.jsonl"
    data = bytearray(path.read_bytes())
    at = data.index(b'"sha256":"') + 10
    data[at] = ord("0") if data[at] != ord("0") else ord("1")
    path.write_bytes(data)


def unsigned_block(store: Path, chance: random.Random) -> None:
    """The last block without its signature, of another content."""
    edited_block(store, chance)
    for path in (store / chain.FOLDER).glob("000002*.sig"):
        path.unlink()


def signed_by_another(store: Path, chance: random.Random) -> None:
    rebuilt(store, chance)
    shutil.rmtree(store / chain.FOLDER)
    seal(store, new_key(store.parent, f"other-{chance.randrange(10**9)}"))


def torn_block(store: Path, chance: random.Random) -> None:
    path = store / chain.FOLDER / "000002.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data) - 2)])


FORGERIES = {
    "everything rebuilt without the key": rebuilt,
    "the last block gone": taken_off_the_end,
    "the first block gone": taken_out_of_the_middle,
    "a block edited": edited_block,
    "a block edited and its signature gone": unsigned_block,
    "everything rebuilt with another key": signed_by_another,
    "a block torn": torn_block,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forgery_needs_the_key(forgery: str, tmp_path: Path, key: Path) -> None:
    forge: Callable[[Path, random.Random], None] = FORGERIES[forgery]
    for seed in range(3):
        store = tmp_path / str(seed)
        chance = sealed_store(store, seed, key)
        tampering.build(store, random.Random(seed + 100))
        head = seal(store, key).head
        allowed = key.with_suffix(".allowed")
        assert check(store, allowed=allowed, head=head).ok
        forge(store, chance)
        seal_check = check(store, allowed=allowed, head=head)
        assert seal_check.problems, forgery
        gone = forgery == "the last block gone"
        assert bool(check(store, allowed=allowed).problems) != gone, "only the head tells that"


def test_what_nobody_sealed_is_neither_ok_nor_forged(tmp_path: Path) -> None:
    sealed_store(tmp_path, 1)
    facts.write(tmp_path, "case", [make_row(run_id="20260201T000000-aaaaaa")])
    seal_check = check(tmp_path)
    (one,) = seal_check.not_covered
    assert seal_check.ok and "has not ended, or was killed" in one.reason
    old = Path(__file__).parent / "fixtures" / "schema-1.parquet"
    run = tmp_path / "20250101T000000-bbbbbb"
    run.mkdir()
    shutil.copy(old, run / "case.parquet")
    reasons = {each.path.parent.name: each.reason for each in check(tmp_path).not_covered}
    assert len(reasons) == 2 and "without a seal" in reasons[run.name]
    assert check(tmp_path).covered == 9
    assert seal(tmp_path).runs == [], "and sealing the store does not cover it"


def test_compaction_deletion_restoration_and_merging_are_no_tampering(tmp_path: Path) -> None:
    store = tmp_path / "store"
    sealed_store(store, 1)
    first, second, third = sorted(path.name for path in store.glob("2026*"))
    assert compact(store, quiet_s=-60).files_after == 3
    seal_check = check(store)
    assert seal_check.ok and seal_check.covered == 3 and not seal_check.not_covered
    assert seal(store).runs == [first, second, third]
    assert check(store).chained == 3
    manifest.close([facts.write(store, "more", [make_row(run_id=first, repetition=20)])])
    compact(store, quiet_s=-60)
    seal(store)
    assert check(store).ok and check(store).chained == 3

    runs.delete(store, second)
    seal_check = check(store)
    assert seal_check.ok and "deleted since the last seal" in seal_check.not_covered[0].reason
    assert seal(store).events == 1
    assert check(store).ok and not check(store).not_covered
    runs.restore(store, second)
    seal(store)
    seal_check = check(store)
    assert seal_check.ok and seal_check.chained == 3 and not seal_check.not_covered

    other = tmp_path / "other"
    merge([store], other)
    seal_check = check(other)
    assert seal_check.ok and seal_check.covered == 3 and not seal_check.not_covered
    seal(other)
    assert check(other).chained == 3
    tampering.rescale(store, random.Random(1))
    assert "rescaled" in kinds(check(store)) <= {"rescaled", "edited"}, "merged rows are known"


def test_a_deletion_that_no_command_recorded_and_a_return_are_named(tmp_path: Path) -> None:
    sealed_store(tmp_path, 1)
    run = sorted(path.name for path in tmp_path.glob("2026*"))[0]
    kept = runs.delete(tmp_path, run)
    seal(tmp_path)
    shutil.copytree(kept, tmp_path / run)
    assert "replayed" in kinds(check(tmp_path))


def test_a_run_of_very_many_rows_has_several_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MOST_ROWS", 4)
    tampering.build(tmp_path, random.Random(1), runs=1)
    assert len(list(tmp_path.glob(f"*/*{manifest.SUFFIX}"))) == 2
    seal(tmp_path)
    assert check(tmp_path).chained == 3


def test_what_a_run_itself_says_twice_is_no_replay(tmp_path: Path) -> None:
    """A figure that is kept again under other parameters, by the process that measured it."""
    samples = [1.1, 1.2, 1.3, 1.4, 1.5]
    rows = [make_row("ttft_s", samples, params=f'{{"batch": {n}}}') for n in (1, 2)]
    manifest.close([facts.write(tmp_path, f"case-{n}", [row]) for n, row in enumerate(rows)])
    assert check(tmp_path).ok and seal(tmp_path).ok
    again = make_row("ttft_s", samples, run_id="20260201T000000-aaaaaa")
    manifest.close([facts.write(tmp_path, "case", [again])])
    assert kinds(check(tmp_path)) == {"replayed"}


def test_merging_files_that_nobody_sealed_does_not_cover_them(tmp_path: Path) -> None:
    run = "20260201T000000-aaaaaa"
    paths = [facts.write(tmp_path, f"c-{n}", [make_row(run_id=run, repetition=n)]) for n in (0, 1)]
    manifest.close(paths)
    for n in (2, 3):
        facts.write(tmp_path, f"c-{n}", [make_row(run_id=run, repetition=n)])
    assert compact(tmp_path, quiet_s=-60).files_after == 2
    seal_check = check(tmp_path)
    assert seal_check.ok and seal_check.covered == 1 and len(seal_check.not_covered) == 1
    other = tmp_path / "other"
    merge([tmp_path], other)
    assert (check(other).covered, len(check(other).not_covered)) == (1, 1)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"schema_version":2,"kind":"run"}',
        b"\xff\xfe",
        b'{"schema_version":1,"kind":"run","run_id":"../../etc","at":"","replaces":[],"cases":[],'
        b'"files":{}}',
    ],
)
def test_junk_in_place_of_a_seal_is_one_line(tmp_path: Path, junk: bytes) -> None:
    sealed_store(tmp_path, 1)
    run = next(tmp_path.glob("2026*"))
    (run / f"junk{manifest.SUFFIX}").write_bytes(junk)
    (problem,) = check(tmp_path).problems
    assert "is no manifest" in problem and "\n" not in problem
    (run / f"junk{manifest.SUFFIX}").unlink()
    (tmp_path / chain.FOLDER / "000002.jsonl").write_bytes(junk)
    (problem,) = check(tmp_path).problems
    assert "no block of a chain" in problem and "\n" not in problem
    with pytest.raises(DamagedError, match="is not sealed"):
        seal(tmp_path)


def test_a_key_that_cannot_sign_is_one_line_and_seals_nothing(tmp_path: Path) -> None:
    tampering.build(tmp_path / "store", random.Random(1))
    junk = tmp_path / "key"
    for make in (lambda: None, lambda: junk.write_text("no key")):
        make()
        with pytest.raises(UsageError) as error:
            seal(tmp_path / "store", junk)
        assert "\n" not in str(error.value)
    assert not check(tmp_path / "store").chain.blocks


def test_sealing_is_idempotent_and_a_later_signature_covers_what_it_follows(
    tmp_path: Path, key: Path
) -> None:
    sealed_store(tmp_path, 1)
    head = seal(tmp_path).head
    assert seal(tmp_path).blocks == [] and seal(tmp_path).head == head
    allowed = key.with_suffix(".allowed")
    assert "not signed by an allowed signer" in check(tmp_path, allowed=allowed).problems[0]
    assert [block.number for block in seal(tmp_path, key).blocks] == [2]
    assert check(tmp_path, allowed=allowed, head=head).ok
    document = json.loads((tmp_path / chain.FOLDER / "000002.jsonl").read_text())
    assert document["previous"] == head


def test_a_store_of_the_first_release_is_read_and_proved(tmp_path: Path) -> None:
    """Measured, tagged, compacted and signed by 1.0.0rc1, and left as it was then."""
    kept = Path(__file__).parent / "fixtures" / "store-1.0.0rc1"
    store = tmp_path / "store"
    shutil.copytree(kept, store)
    head = "d213ef4c3a8d7a50c208eb470f269cd346b5b1355b17d23d338702c2ea505d2f"
    report = verify_store(store, allowed=kept / "allowed_signers", head=head)
    assert report.ok and report.rows == 12 and not report.seals.not_covered
    assert report.seals.signed_by == "fixture@example.org"
    assert labels.of_run(store, "20261128T144605-c84a23").tags == ("baseline",)
    assert {row.source for row in facts.iter_rows(facts.scan(facts.files(store)).table)} == {
        "tpubench 1.0.0rc1"
    }
    tampering.delete_row(store, random.Random(1))
    assert kinds(check(store)) == {"deleted"}
