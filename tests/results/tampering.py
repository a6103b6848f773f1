"""Who alters a store: with the project's own writer, so that each file agrees with itself."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sample_rows import make_row

from tpubench.results import row as rows_module
from tpubench.results import store as facts
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.sealing import manifest
from tpubench.results.statistics import within

NAMES = ("ttft_s", "tpot_s", "output_tok_s")


def build(store: Path, chance: random.Random, *, runs: int = 3, files: int = 3) -> None:
    """Runs as tpubench writes them: files of rows, and at its end the manifest of each run."""
    for number in range(runs):
        run_id = f"2026010{number + 1}T000000-{chance.randrange(16**6):06x}"
        paths = []
        for repetition in range(files):
            rows = [
                make_row(
                    name,
                    [chance.lognormvariate(0, 0.05) for _ in range(7)],
                    run_id=run_id,
                    repetition=repetition,
                )
                for name in NAMES
            ]
            paths.append(facts.write(store, f"case-{repetition:03}", rows))
        manifest.close(paths)


def rows_of(path: Path) -> list[Row]:
    return list(facts.iter_rows(facts.load(path)))


def rewrite(path: Path, rows: list[Row]) -> None:
    """The file with these rows instead, and every digest in it as it must be."""
    path.unlink(missing_ok=True)
    facts.write_into(path.parent, path.stem, rows_module.to_table(rows))


def scaled(row: Row, factor: float) -> Row:
    samples = [sample * factor for sample in row.samples or ()]
    one = within(METRICS[row.metric].aggregate, samples)
    return replace(row, samples=samples, value=one.point, ci_low=one.low, ci_high=one.high)


def _pick(store: Path, chance: random.Random) -> Path:
    return chance.choice(facts.files(store).files)


def _other(store: Path, chance: random.Random, path: Path, *, run: bool) -> Path:
    return chance.choice(
        [p for p in facts.files(store) if p != path and (p.parent != path.parent) == run]
    )


def edit(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    rows = rows_of(path)
    at = chance.randrange(len(rows))
    samples = list(rows[at].samples or ())
    samples[chance.randrange(len(samples))] *= chance.uniform(0.5, 0.9)
    rows[at] = scaled(replace(rows[at], samples=samples), 1.0)
    rewrite(path, rows)
    return path.parent.name


def edit_circumstances(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    rows = rows_of(path)
    at = chance.randrange(len(rows))
    change = chance.choice([{"device": "tpu-v6e"}, {"chips": 8}, {"git_dirty": False}])
    rows[at] = replace(rows[at], **change)  # type: ignore[arg-type]
    rewrite(path, rows)
    return path.parent.name


def rescale(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    factor = chance.uniform(0.5, 0.99)
    rewrite(path, [scaled(row, factor) for row in rows_of(path)])
    return path.parent.name


def move_row(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    target = _other(store, chance, path, run=chance.random() < 0.5)
    rows = rows_of(path)
    row = rows.pop(chance.randrange(len(rows)))
    rewrite(target, [*rows_of(target), row])
    rewrite(path, rows)
    return target.parent.name


def move_file(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    target = _other(store, chance, path, run=True).with_name("case-009.parquet")
    path.rename(target)
    return target.parent.name


def swap_files(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    other = _other(store, chance, path, run=chance.random() < 0.5)
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return path.parent.name


def replay_row(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    rows = rows_of(path)
    again = replace(chance.choice(rows), repetition=7)
    rewrite(path, [*rows, again])
    return path.parent.name


def replay_file(store: Path, chance: random.Random) -> str:
    """As further repetitions, which are new files: no seal of any file is touched."""
    path = _pick(store, chance)
    rows = [replace(row, repetition=9) for row in rows_of(path)]
    rewrite(path.with_name("case-009.parquet"), rows)
    return path.parent.name


def replay_file_rescaled(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    factor = chance.uniform(0.5, 2)
    rows = [scaled(replace(row, repetition=9), factor) for row in rows_of(path)]
    rewrite(path.with_name("case-009.parquet"), rows)
    return path.parent.name


def copy_run(store: Path, chance: random.Random) -> str:
    run = _pick(store, chance).parent
    other = run.with_name(f"20260109T000000-{chance.randrange(16**6):06x}")
    shutil.copytree(run, other)
    return other.name


def copy_run_as_new(store: Path, chance: random.Random) -> str:
    """A run of its own by all it says: its id, its rows, its manifest."""
    run = _pick(store, chance).parent
    other = f"20260109T000000-{chance.randrange(16**6):06x}"
    paths = [
        facts.write(store, path.stem, [replace(row, run_id=other) for row in rows_of(path)])
        for path in sorted(run.glob("*.parquet"))
    ]
    manifest.close(paths)
    return other


def renumber(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    rewrite(path, [replace(row, repetition=row.repetition + 5) for row in rows_of(path)])
    return path.parent.name


def delete_row(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    rows = rows_of(path)
    rows.pop(chance.randrange(len(rows)))
    rewrite(path, rows)
    return path.parent.name


def delete_file(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    path.unlink()
    return path.parent.name


def delete_run(store: Path, chance: random.Random) -> str:
    run = _pick(store, chance).parent
    shutil.rmtree(run)
    return run.name


def add_row(store: Path, chance: random.Random) -> str:
    path = _pick(store, chance)
    new = make_row("ttft_s", [chance.random() + 1 for _ in range(7)], run_id=path.parent.name)
    rewrite(path, [*rows_of(path), replace(new, repetition=8)])
    return path.parent.name


def edit_with_manifest(store: Path, chance: random.Random) -> str:
    """A rescaled file, and the manifest of its run rewritten to say so."""
    run_id = rescale(store, chance)
    for path in (store / run_id).glob(f"*{manifest.SUFFIX}"):
        path.unlink()
    manifest.close(sorted((store / run_id).glob("*.parquet")))
    return run_id


def delete_by_compaction(store: Path, chance: random.Random) -> str:
    """Files merged into one as compact does it, with a record, but for one row."""
    run = _pick(store, chance).parent
    paths = sorted(run.glob("*.parquet"))
    rows = [row for path in paths for row in rows_of(path)]
    rows.pop(chance.randrange(len(rows)))
    for path in paths:
        path.unlink()
    new = facts.write_into(run, "compact-0", rows_module.to_table(rows))
    manifest.write(run, {new.name: manifest.seal_of(new)}, replaces=[p.name for p in paths])
    return run.name


def rescale_by_compaction(store: Path, chance: random.Random) -> str:
    """Files merged into one of rescaled rows, with a record that says that they are as sealed."""
    run = _pick(store, chance).parent
    paths = sorted(run.glob("*.parquet"))
    rows = [row for path in paths for row in rows_of(path)]
    honest = [row for path in paths for row in manifest.seal_of(path).rows]
    for path in paths:
        path.unlink()
    new = facts.write_into(run, "compact-0", rows_module.to_table([scaled(r, 0.9) for r in rows]))
    seal = replace(manifest.seal_of(new), rows=honest)
    manifest.write(run, {new.name: seal}, replaces=[path.name for path in paths])
    return run.name


Attack = Callable[[Path, random.Random], str]
ATTACKS: dict[str, tuple[Attack, set[str]]] = {
    "edited": (edit, {"edited"}),
    "edited beside the value": (edit_circumstances, {"edited"}),
    "rescaled": (rescale, {"rescaled"}),
    "a row moved": (move_row, {"moved", "deleted"}),
    "a file moved": (move_file, {"moved", "deleted"}),
    "two files swapped": (swap_files, {"moved", "deleted"}),
    "a row replayed": (replay_row, {"replayed", "added"}),
    "a file replayed": (replay_file, {"replayed"}),
    "a file replayed, rescaled": (replay_file_rescaled, {"replayed"}),
    "a run copied": (copy_run, {"replayed"}),
    "a run copied as a new one": (copy_run_as_new, {"replayed"}),
    "renumbered": (renumber, {"renumbered"}),
    "a row deleted": (delete_row, {"deleted"}),
    "a file deleted": (delete_file, {"deleted"}),
    "a run deleted": (delete_run, {"deleted"}),
    "a row added": (add_row, {"added"}),
    "rescaled, with its manifest": (edit_with_manifest, {"rescaled", "forged"}),
    "deleted by compaction": (delete_by_compaction, {"deleted"}),
    "rescaled by compaction": (rescale_by_compaction, {"edited", "rescaled"}),
}
"""What is done, and what verify may call it; the first is among what it must say."""
