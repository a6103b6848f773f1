"""What ``--baseline`` and ``--candidate`` of ``tpubench ab`` mean.

A side is one clause, or several joined by ``+``:

    .                      the code and interpreter at hand
    /path/to/python        another interpreter           (python:PATH)
    v1.2, HEAD~3, release  a git revision                (ref:REV)
    set:batch=8,steps=2    settings, as --set has them
    mode:packed            a compile mode
    backend:cpu            a backend
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.suite.duets import refs
from tpubench.suite.duets.partner import Side
from tpubench.suite.duets.refs import Built
from tpubench.suite.job import Job
from tpubench.suite.request import Request
from tpubench.suite.run import RunPlan, make_plan
from tpubench.suite.timing import Pace

DUET_PACE = Pace(warm_up_s=0.1, most_warm_up_s=1.0)
"""On the host's cores, where a pair is 20 to 80 new processes in a minute or two; a device warms up
as for a run, to the state of its power and heat."""
"""Warm-up of each pair's processes; the second and later pairs find everything compiled."""

_KINDS = ("python", "ref", "set", "mode", "backend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A side in parts; None means as the request has it."""

    text: str
    python: str | None = None
    ref: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    mode: str | None = None
    backend: str | None = None


def parse(text: str) -> Spec:
    """The side that ``text`` names; UsageError for no file, revision or clause."""
    spec = Spec(text=text)
    for clause in text.split("+"):
        kind, colon, value = clause.strip().partition(":")
        if not colon or kind not in _KINDS:
            kind, value = _bare(clause.strip())
        if kind == "as it is":
            continue
        if not value:
            raise UsageError(f"{text!r}: nothing after {kind}:")
        spec = _with(spec, kind, value)
    return spec


def _bare(word: str) -> tuple[str, str]:
    if word == ".":
        return "as it is", ""
    if shutil.which(Path(word).expanduser()) and "/" in word:
        return "python", word
    if refs.commit(word) is not None:
        return "ref", word
    raise UsageError(
        f"{word!r} is no interpreter and {refs.no_revision()}; write a path, a revision,"
        " 'release', '.', or python:PATH, ref:REV, set:KEY=VALUE, mode:MODE, backend:NAME"
    )


def _with(spec: Spec, kind: str, value: str) -> Spec:
    if kind == "python":
        path = shutil.which(Path(value).expanduser())
        if path is None:
            raise UsageError(f"{value} is not an executable file")
        return replace(spec, python=path)
    if kind == "ref":
        return replace(spec, ref=value)
    if kind == "mode":
        return replace(spec, mode=value)
    if kind == "backend":
        return replace(spec, backend=value)
    settings = dict(spec.settings)
    for pair in value.split(","):
        key, equals, setting = pair.partition("=")
        if not equals or not key.strip() or not setting.strip():
            raise UsageError(f"{pair!r}: write set:KEY=VALUE[,KEY=VALUE]")
        settings[key.strip()] = setting.strip()
    return replace(spec, settings=settings)


def plan(spec: Spec, request: Request) -> RunPlan:
    """What this side would run, before anything runs."""
    overrides = {**request.overrides, **{key: [value] for key, value in spec.settings.items()}}
    return make_plan(
        replace(
            request,
            overrides=overrides,
            backend=spec.backend or request.backend,
            compile_mode=spec.mode or request.compile_mode,
            python=spec.python or request.python,
        )
    )


def built(specs: Sequence[Spec]) -> list[Built | None]:
    """The tree of each side, in front of an interpreter; None for what its interpreter has.

    Held against a revision, ``.`` is the working tree and not what of it is installed. UsageError
    or RunFailedError when a revision cannot be had.
    """
    sides: list[Built | None] = []
    for spec in specs:
        if spec.ref is not None and spec.python is not None:
            raise UsageError(f"{spec.text!r}: a revision brings its own interpreter; drop python:")
        if spec.ref is not None:
            sides.append(refs.build(spec.ref))
        elif spec.python is None and any(other.ref is not None for other in specs):
            sides.append(refs.working_tree())
        else:
            sides.append(None)
    return sides


def sides(spec: Spec, planned: RunPlan, name: str, tree: Built | None) -> list[Side]:
    """One side for each case of its plan."""
    weights = planned.weights
    if weights.path is not None:  # a side may run in another folder
        weights = replace(weights, path=weights.path.absolute())
    pace = planned.backend.pace if planned.backend.accelerator else DUET_PACE
    notes = tuple[str, ...]()
    if tree is not None:
        notes = (f"{name} {spec.text}: {tree.code.what}, {tree.how}",)
    return [
        Side(
            label=name,
            python=planned.python if tree is None else tree.python,
            environment={} if tree is None else tree.environment,
            commit=None if tree is None else tree.commit,
            code=None if tree is None else tree.code,
            folder=None if tree is None else tree.folder,
            foreign=spec.python is not None,
            notes=notes,
            job=Job(
                backend=planned.backend.name,
                compile_mode=planned.compile_mode,
                case=case,
                weights=weights,
                pace=pace,
                repetition=0,
            ),
        )
        for case in planned.cases
    ]
