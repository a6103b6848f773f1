"""Tables and sentences of ``tpubench verify`` and ``seal``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.reports.terminal import console, print_json
from tpubench.results.plain_text import one_line

if TYPE_CHECKING:
    from tpubench.results.sealing.check import NotCovered, SealCheck
    from tpubench.results.sealing.naming import Tampering
    from tpubench.results.sealing.seal_store import Sealed
    from tpubench.results.verify import Verification

ROWS_SHOWN = 3
"""Rows named in a line; all of them stand in --json."""


def show_verification(done: Verification, *, as_json: bool) -> None:
    """Which files and figures do not hold, what was tampered with, and what nobody sealed."""
    seals = done.seals
    problems = [
        {"file": str(bad.path), "problem": str(bad.error).removeprefix(f"{bad.path} ")}
        for bad in done.damaged
    ]
    problems += [
        {"file": bad.run_id, "problem": f"{bad.metric}: {bad.problem}"} for bad in done.mismatches
    ]
    problems += [{"file": "chain", "problem": problem} for problem in seals.problems]
    if as_json:
        print_json(
            {
                "files": done.files,
                "rows": done.rows,
                "problems": problems,
                "tampered": [_tampering(each) for each in seals.tampered],
                "seals": _seals(seals),
            }
        )
        return
    out = console()
    lines = [f"{problem['file']}: {problem['problem']}" for problem in problems]
    lines += [_line(each) for each in seals.tampered]
    for line in lines:
        out.print(one_line(line), markup=False, soft_wrap=True)
    state = f"{len(lines)} problems" if lines else "every figure follows from its samples"
    out.print(f"{done.files} files, {done.rows} rows: {state}")
    _print_coverage(seals)


def show_sealed(done: Sealed, store: Path, *, as_json: bool) -> None:
    """What the new block holds, its head, and what was left out."""
    if as_json:
        print_json(
            {
                "store": str(store),
                "head": done.head,
                "blocks": [block.number for block in done.blocks],
                "signed_by": done.blocks[-1].signed_by if done.blocks else None,
                "runs": done.runs,
                "events": done.events,
                "tampered": [_tampering(each) for each in done.left_out],
                "not_covered": [_not_covered(each) for each in done.not_covered],
            }
        )
        return
    out = console()
    for each in done.left_out:
        out.print(one_line(f"not sealed: {_line(each)}"), markup=False, soft_wrap=True)
    _print_not_covered(done.not_covered)
    if not done.blocks:
        out.print("nothing new to seal")
    else:
        last = done.blocks[-1]
        signed = f"signed by {one_line(last.signed_by)}" if last.signed_by else "not signed"
        out.print(
            f"block {last.number}: {len(done.runs)} runs,"
            f" {done.events} deletions and restorations; {signed}",
            markup=False,
        )
    if done.head:
        out.print("keep the head elsewhere, for tpubench verify --head:")
        out.print(done.head)


def _line(each: Tampering) -> str:
    rows = ", ".join(each.rows[:ROWS_SHOWN])
    more = f" and {len(each.rows) - ROWS_SHOWN} more" if len(each.rows) > ROWS_SHOWN else ""
    return f"{each.kind}: {each.where}: {each.detail}" + (f": {rows}{more}" if rows else "")


def _tampering(each: Tampering) -> dict[str, Any]:
    return {
        "kind": each.kind, "where": each.where, "problem": each.detail, "rows": list(each.rows),
    }  # fmt: skip


def _not_covered(each: NotCovered) -> dict[str, str]:
    return {"file": str(each.path), "reason": each.reason}


def _seals(seals: SealCheck) -> dict[str, Any]:
    return {
        "covered": seals.covered,
        "chained": seals.chained,
        "blocks": len(seals.chain.blocks),
        "head": seals.chain.head,
        "signed_by": seals.signed_by,
        "not_covered": [_not_covered(each) for each in seals.not_covered],
    }


def _print_coverage(seals: SealCheck) -> None:
    out = console()
    blocks = len(seals.chain.blocks)
    if blocks:
        by = f"signed by {one_line(seals.signed_by)}" if seals.signed_by else "not signed"
        chain = f"{seals.chained} of them in a chain of {blocks}, {by}"
    else:
        chain = "no chain: tpubench seal makes one"
    if seals.covered:
        out.print(f"{seals.covered} files are as they were sealed; {chain}", markup=False)
    _print_not_covered(seals.not_covered)


def _print_not_covered(listed: list[NotCovered]) -> None:
    for reason, count in Counter(each.reason for each in listed).items():
        first = next(each.path for each in listed if each.reason == reason)
        more = f" and {count - 1} more" if count > 1 else ""
        console().print(
            one_line(f"not covered: {first}{more}: {reason}"), markup=False, soft_wrap=True
        )
