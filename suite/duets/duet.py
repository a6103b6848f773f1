"""Runs a duet: pairs of processes taking turns, until the pairs prove something.

    with stage(baseline, candidate, timeout_s=900) as duet:
        while not judged.final:
            pairs.append(duet.pair())

Each pair is two new processes, prepared one after the other in random order. Their blocks alternate
in random ABBA or BAAB order; the one whose turn it is not is blocked in a read. On a device that
admits one process, a pair is two runs one after the other, in random order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tpubench.errors import NotComparableError, RunFailedError
from tpubench.results.duet import Design, Pair, block_time_s
from tpubench.suite import registry
from tpubench.suite.duets.partner import Partner, Side

BLOCK_S = 0.005
"""A neighbour's load comes and goes within tens of milliseconds; turns are shorter than that."""
MOST_PASSES = 1000
LEAST_QUADS, MOST_QUADS, PAIR_S = 3, 15, 2.0
"""Quads of a pair: the most, or as many as fit into PAIR_S, but never fewer than the least."""
TRIAL_PASSES = 5
MEMORY_ROOM = 1.1
"""What a process takes beside its tensors: its context and the compiler's work space."""
PAIRS_AN_INTERPRETER = 5
"""Processes forked from one interpreter share where its code lies, worth 0.2 to 0.6 % between
identical programs; no number of their pairs averages that out. So interpreters are renewed, two at
least have a say in any verdict, and an alarm is confirmed with new ones."""
Who = Literal["A", "B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenPair:
    """A pair, what its two processes said of themselves, and every pass by block."""

    pair: Pair
    prepared: Mapping[Who, Mapping[str, Any]]
    passes_s: Mapping[Who, list[list[float]]]


@dataclass(slots=True, kw_only=True)
class Duet:
    """Two sides, ready to give pairs."""

    partners: dict[Who, Partner]
    design: Design
    chance: random.Random
    quads: int | None = None
    passes: int | None = None
    """Quads a pair and passes a block, the same on both sides; decided in the first pair."""
    taken: int = 0
    note: str | None = None
    """Why the design is another than was planned."""
    checked: set[Who] = field(default_factory=set)
    """Sides whose output has been held against the reference: once each, in their first process."""

    def pair(self) -> TakenPair:
        """One pair of new processes. RunFailedError when one dies; NotComparableError when the
        two run different versions of the workload."""
        if self.taken % PAIRS_AN_INTERPRETER == 0:
            for partner in self.partners.values():
                partner.renew()
            for partner in self.partners.values() if self.design == "duet" else ():
                partner.start()
        self.taken += 1
        return self._in_turns() if self.design == "duet" else self._in_runs()

    def _in_turns(self) -> TakenPair:
        first: list[Who] = ["A", "B"]
        self.chance.shuffle(first)
        prepared = {first[0]: self._prepare(first[0])}
        why = too_large(prepared[first[0]])
        if why is not None:
            self.design, self.note = "runs", why
            self.partners[first[0]].end()
            return self._in_runs()
        prepared[first[1]] = self._prepare(first[1])
        self._compare(prepared)
        passes, quads = self._size("A")
        order = "".join(self.chance.choice(("ABBA", "BAAB")) for _ in range(quads))
        blocks: dict[Who, list[list[float]]] = {"A": [], "B": []}
        for letter in order:
            who: Who = "A" if letter == "A" else "B"
            blocks[who].append(self.partners[who].block(passes))
        for who in first:
            self.partners[who].end()
        return self._taken(order, prepared, blocks)

    def _in_runs(self) -> TakenPair:
        order: list[Who] = ["A", "B"]
        if self.passes is not None:  # the baseline goes first once, to say how long a pass takes
            self.chance.shuffle(order)
        prepared: dict[Who, Mapping[str, Any]] = {}
        blocks: dict[Who, list[list[float]]] = {}
        for who in order:
            prepared[who] = self._prepare(who)
            passes, quads = self._size(who)
            blocks[who] = [self.partners[who].block(passes) for _ in range(2 * quads)]
            self.partners[who].end()
        self._compare(prepared)
        letters = "".join(who * len(blocks[who]) for who in order)
        return self._taken(letters, prepared, blocks)

    def _prepare(self, who: Who) -> Mapping[str, Any]:
        partner = self.partners[who]
        prepared = partner.prepare(parity=who not in self.checked)
        self.checked.add(who)
        parity = prepared["parity"]
        if parity is not None and not parity["ok"]:
            # An older tpubench has one check, without a name.
            raise RunFailedError(
                f"{partner.side.label}: parity check failed: {parity.get('name', 'reference')}:"
                f" error {parity['error']:.3g}, at most {parity['tolerance']:.3g} is allowed"
            )
        return prepared

    def _size(self, who: Who) -> tuple[int, int]:
        """Passes that fill a block and quads that fill a pair, from a trial in the first pair."""
        if self.passes is None:
            quickest_s = max(min(self.partners[who].block(TRIAL_PASSES)), 1e-9)
            self.passes = min(math.ceil(BLOCK_S / quickest_s), MOST_PASSES)
            fitting = round(PAIR_S / (4 * self.passes * quickest_s))
            self.quads = self.quads or min(max(LEAST_QUADS, fitting), MOST_QUADS)
        assert self.quads is not None
        return self.passes, self.quads

    def _compare(self, prepared: Mapping[Who, Mapping[str, Any]]) -> None:
        a, b = (prepared[who]["workload_version"] for who in ("A", "B"))
        if a != b:
            raise NotComparableError(
                f"the baseline runs version {a} of the workload, the candidate version {b}"
            )

    def _taken(
        self,
        order: str,
        prepared: Mapping[Who, Mapping[str, Any]],
        blocks: Mapping[Who, list[list[float]]],
    ) -> TakenPair:
        pair = Pair(
            order=order,
            baseline_s=[block_time_s(block) for block in blocks["A"]],
            candidate_s=[block_time_s(block) for block in blocks["B"]],
            design=self.design,
        )
        return TakenPair(pair=pair, prepared=prepared, passes_s=blocks)


def too_large(prepared: Mapping[str, Any]) -> str | None:
    """Why a second process like this one does not fit on its device; None when it does."""
    needed, free = prepared.get("peak_memory_bytes"), prepared.get("free_memory_bytes")
    if needed is None or free is None or needed * MEMORY_ROOM <= free:
        return None
    return (
        f"pairs ran one after the other: a second process needs {needed / 1e9:.3g} GB beside the"
        f" first, {free / 1e9:.3g} GB are free"
    )


def design_for(backend: str, asked: Design | None) -> Design:
    """The design asked for, or the one that the backend's device allows.

    RunFailedError when a duet is asked for on a device that admits one process.
    """
    why = registry.backend(backend).one_process()
    if asked == "duet" and why is not None:
        raise RunFailedError(f"--design duet cannot run: {why}; use --design runs")
    return asked or ("duet" if why is None else "runs")


@contextmanager
def stage(
    baseline: Side,
    candidate: Side,
    *,
    timeout_s: float,
    design: Design | None = None,
    quads: int | None = None,
    seed: int | None = None,
) -> Iterator[Duet]:
    """Both sides on stage; leaving ends every process that was started.

    ``quads`` a pair, 15 when None, or fewer where they would take over 2 s. ``seed`` fixes the
    order of blocks, which is random otherwise.
    """
    with Partner(baseline, timeout_s) as a, Partner(candidate, timeout_s) as b:
        yield Duet(
            partners={"A": a, "B": b},
            design=design_for(baseline.job.backend, design),
            quads=quads,
            chance=random.Random(seed),
        )
