"""Whether the two sides of a duet ran the code that they stand for.

A verdict on two revisions that both imported the working tree would be *ok* for any slowdown. So
each side says which files it imported, and they are held against what it stands for; what cannot
be shown to be its own is not comparable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpubench.errors import NotComparableError
from tpubench.results.fingerprint import sha256
from tpubench.suite import processes
from tpubench.suite.duets.partner import Side
from tpubench.suite.messages import Loaded

_MOST_NAMED = 5


@dataclass(slots=True, kw_only=True)
class Witness:
    """Sees what both sides of a case load, pair after pair."""

    sides: tuple[Side, Side]
    seen: dict[str, dict[str, Loaded]] = field(default_factory=dict)
    """By the side's label, then by module."""

    def see(self, prepared: Mapping[str, Any], side: Side) -> str:
        """SHA-256 of what a side imported. NotComparableError naming the file that it should not
        have, or that has changed since the last pair."""
        if prepared["loaded"] is None:
            raise NotComparableError(
                f"{side.label}: its tpubench is older than the ab command, and does not say which"
                " files it imported"
            )
        modules = [Loaded(**record) for record in prepared["loaded"]]
        before = self.seen.setdefault(side.label, {})
        for module in modules:
            earlier = before.setdefault(module.module, module)
            if (earlier.file, earlier.sha256) != (module.file, module.sha256):
                raise NotComparableError(
                    f"{side.label}: {module.file} changed while it was compared"
                )
        if side.code is not None:
            self._of_its_tree(side, modules)
        elif side.foreign:
            _of_its_interpreter(side, modules)
        return sha256({name: module.sha256 for name, module in before.items()})

    def differing(self) -> str:
        """Which imported code differs, in words; empty where the sides are to run the same.

        NotComparableError when they are, and do not.
        """
        a, b = (self.seen[side.label] for side in self.sides)
        named = {name for side in self.sides for name in side.watched}
        modules = sorted(m for m in a.keys() | b.keys() if m.partition(".")[0] in named)
        if all(side.code is None and not side.foreign for side in self.sides):
            for name in modules:
                if name in a and name in b and a[name].sha256 != b[name].sha256:
                    raise NotComparableError(f"{a[name].file} changed while it was compared")
            return ""
        differ = [n for n in modules if _sha256(a.get(n)) != _sha256(b.get(n))]
        if not differ:
            return "no imported file differs: both sides run the same code"
        rest = len(differ) - _MOST_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return f"imported code that differs: {', '.join(differ[:_MOST_NAMED])}{more}"

    def _of_its_tree(self, side: Side, modules: Iterable[Loaded]) -> None:
        assert side.code is not None
        codes = [each.code for each in self.sides if each.code is not None]
        names = frozenset[str]().union(*(code.names for code in codes))
        trees = {tree for code in codes for tree in (code.top, code.checkout)}
        own = 0
        for module in modules:
            if module.file.startswith(f"{side.code.folder}{os.sep}"):
                own += 1
                continue
            real = Path(module.file).resolve()
            astray = not module.installed and any(real.is_relative_to(tree) for tree in trees)
            if astray or module.module.partition(".")[0] in names:
                raise NotComparableError(
                    f"{side.label} stands for {side.code.what}, and imported {module.module} from"
                    f" {module.file}"
                )
        if not own:
            raise NotComparableError(
                f"{side.label} stands for {side.code.what}, and imported none of its files: this"
                " workload does not use this project"
            )


def _of_its_interpreter(side: Side, modules: Sequence[Loaded]) -> None:
    entries = tuple(f"{Path(e).absolute()}{os.sep}" for e in processes.python_path())
    for module in modules:
        watched = module.module.partition(".")[0] in side.watched
        if watched and not module.installed and module.file.startswith(entries):
            raise NotComparableError(
                f"{side.label} stands for {side.python}, and imported {module.module} from"
                f" {module.file}, which PYTHONPATH names: unset it"
            )


def _sha256(module: Loaded | None) -> str | None:
    return module.sha256 if module is not None else None
