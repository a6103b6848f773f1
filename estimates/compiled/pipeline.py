"""Exports the programs of a case, has libtpu compile them, and adds up what it says.

A model of many identical layers is compiled with one layer and with two, its other weights and
caches as arguments that nothing reads: the memory verdict is then that of the whole model, and
the difference between the two is what each further layer costs. ``full`` compiles all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.estimates.compiled import children
from tpubench.estimates.compiled.hlo import ProgramCost, cost
from tpubench.estimates.compiled.request import CompileRequest, Estimated, MemoryFit, PhaseEstimate
from tpubench.estimates.compiled.timing import attention, extrapolate, step_time
from tpubench.results.fingerprint import canonical_json
from tpubench.suite import compiling, registry
from tpubench.suite.interpreters import Interpreter

_COMPILING = Path(compiling.__file__).parent
"""Code that exports and compiles: part of a cache key, with the workload's own."""

_VERDICT = re.compile(
    r"\((\d+(?:\.\d+)?)([KMGT])\) exceeds available HBM \((\d+(?:\.\d+)?)([KMGT])\)"
)
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def run(request: CompileRequest) -> Estimated:
    """The estimate of one case. RunFailedError when a child fails, UsageError for what cannot be.

    Results are kept under ``request.cache`` by everything that decides them.
    """
    workload = registry.workload(request.case.workload)
    phases = _phases(request)
    if not phases:
        raise UsageError(f"{workload.name} cannot be exported: it names no phases")
    layers = workload.depth(request.case)
    depths = request.depths
    versions = _installed(request)
    target = request.target
    kernel = target.devices == 1 and target.generation.kernels and not workload.trains
    stored = _stored(request, versions, kernel, depths)
    programs: list[dict[str, Any]] = stored["programs"]
    estimates = []
    for index, phase in enumerate(phases):
        group = programs[index * len(depths) : (index + 1) * len(depths)]
        estimates.append(_phase(request, phase, group, layers))
    return Estimated(
        request=request, phases=tuple(estimates), versions=stored["versions"], kernel=kernel
    )


def _phases(request: CompileRequest) -> list[str]:
    known = registry.workload(request.case.workload).phases(request.case)
    return [name for name in known if request.phases is None or name in request.phases]


def _phase(
    request: CompileRequest, phase: str, programs: list[dict[str, Any]], layers: int
) -> PhaseEstimate:
    """One phase from its programs: of all layers, or of one and of two."""
    last = programs[-1]
    depth, fit = last["depth"], _fit(last)
    per_layer = layers / depth
    attended = attention(last["attention"], last["context"], per_layer)
    flops = last["flops"]
    if len(programs) == 2:
        flops += (layers - 2) * (last["flops"] - programs[0]["flops"])
    spent = sum(program.get("compile_time_s", 0.0) for program in programs)
    total = None
    if fit.fits:
        costs: list[ProgramCost] = [program["cost"] for program in programs]
        total = costs[0] if len(costs) == 1 else extrapolate(costs[0], costs[1], layers)
    time = None
    if total is not None:
        time = step_time(
            total,
            attended,
            flops=flops / request.target.devices,
            dtype=request.case.dtype,
            target=request.target,
        )
    return PhaseEstimate(
        phase=phase,
        fit=fit,
        cost=total,
        attention=attended,
        flops=flops,
        time=time,
        compile_time_s=spent,
    )


def _fit(program: Mapping[str, Any]) -> MemoryFit:
    words = program.get("out_of_memory")
    if words is not None:
        verdict = _VERDICT.search(words)
        if verdict is None:
            raise RunFailedError(f"compiling failed: {' '.join(words.split())[:300]}")
        return MemoryFit(
            fits=False,
            needed=round(float(verdict[1]) * _UNIT[verdict[2]]),
            available=round(float(verdict[3]) * _UNIT[verdict[4]]),
            words=verdict[0],
        )
    memory = program["memory"]
    needed = memory["arguments"] + memory["outputs"] - memory["aliased"]
    return MemoryFit(
        fits=True, needed=needed + memory["temporary"] + memory["code"], available=None
    )


def _digests() -> dict[str, str]:
    """SHA-256 of the files that export and compile; what is exported is in the workload's own."""
    files = [path for path in _COMPILING.iterdir() if path.suffix in {".py", ".c"}]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def _stored(
    request: CompileRequest, versions: Mapping[str, str], kernel: bool, depths: list[int]
) -> dict[str, Any]:
    """The programs, from the cache or made now."""
    identity = {
        "case": dataclasses.asdict(request.case),
        "source": registry.workload(request.case.workload).source_sha256(),
        "code": _digests(),
        "topology": request.target.topology,
        "kernel": kernel,
        "phases": _phases(request),
        "depths": depths,
        "versions": dict(versions),
    }
    key = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:24]
    kept = request.cache / "compiled" / key
    if not (kept / "answer.json").exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=kept.parent) as folder:
            fresh = Path(folder) / "made"
            fresh.mkdir()
            answer = {"identity": identity, **_make(request, kernel, depths, fresh)}
            (fresh / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
            with contextlib.suppress(OSError):  # another process was faster: its answer is as good
                fresh.rename(kept)
    stored: dict[str, Any] = json.loads((kept / "answer.json").read_text(encoding="utf-8"))
    for program in stored["programs"]:
        if "memory" in program:
            module = gzip.decompress((kept / program["hlo"]).read_bytes())
            program["cost"] = cost(
                module, devices=request.target.devices, elsewhere=program["caches"]
            )
    return stored


def _make(request: CompileRequest, kernel: bool, depths: list[int], folder: Path) -> dict[str, Any]:
    """Export and compile; the optimised programs go to ``folder``, compressed."""
    target = request.target
    wanted = [
        {"phase": phase, "depth": depth, "mlir": str(folder / f"{phase}-{depth}.mlir")}
        for phase in _phases(request)
        for depth in depths
    ]
    exported = children.ask(
        "tpubench.suite.compiling.export",
        {
            "cache": str(request.cache),
            "case": dataclasses.asdict(request.case),
            "chips": target.devices,
            "kernel": kernel,
            "programs": wanted,
        },
        python=request.python,
        timeout_s=request.timeout_s,
        what="exporting",
    )
    programs = [{**a, **b} for a, b in zip(wanted, exported["programs"], strict=True)]
    for program in programs:
        program["hlo"] = program["mlir"].removesuffix("mlir") + "hlo"
    compiled = _compile(request, programs)
    answers: list[dict[str, Any]] = compiled["programs"]
    trains = registry.workload(request.case.workload).trains
    if trains and len(depths) == 2:
        _add_activations(request, programs, answers)
    results = []
    for program, answer in zip(programs, answers, strict=True):
        if "error" in answer:
            raise RunFailedError(f"compiling failed: {answer['error']}")
        results.append(_kept(program, answer, trains=trains))
    return {"programs": results, "versions": {**exported["versions"], **compiled["versions"]}}


def _compile(request: CompileRequest, programs: list[dict[str, Any]]) -> dict[str, Any]:
    target = request.target
    return children.ask(
        "tpubench.suite.compiling.libtpu",
        {
            "topology": target.topology,
            "chip_config": target.generation.chip_config,
            "devices": target.devices,
            "programs": programs,
        },
        python=request.python,
        timeout_s=request.timeout_s,
        what="compiling",
    )


def _add_activations(
    request: CompileRequest, programs: list[dict[str, Any]], answers: list[dict[str, Any]]
) -> None:
    """Let the compiler judge the memory of a whole training step, in place.

    Every layer keeps what its backward pass needs, so the second layer's share of the temporary
    memory is needed once for each layer that is not there. The program of two layers is compiled
    again with as much more memory taken; only its verdict is used.
    """
    one, two = answers
    if "memory" not in one or "memory" not in two:
        return
    layers = registry.workload(request.case.workload).depth(request.case)
    grown = max(two["memory"]["temporary"] - one["memory"]["temporary"], 0)
    whole = programs[1] | {
        "resident_bytes": programs[1]["resident_bytes"] + (layers - 2) * grown,
        "hlo": programs[1]["hlo"] + ".whole",
    }
    (verdict,) = _compile(request, [whole])["programs"]
    Path(whole["hlo"]).unlink(missing_ok=True)
    if "memory" in verdict:
        two["memory"] = verdict["memory"]
        two["compile_time_s"] += verdict["compile_time_s"]
    else:
        answers[1] = verdict


def _kept(program: Mapping[str, Any], answer: Mapping[str, Any], *, trains: bool) -> dict[str, Any]:
    """What the cache keeps of a program."""
    kept = {key: program[key] for key in ("phase", "depth", "attention", "context", "flops")}
    # Where attention's place is held, what holds it reads these; the attention added does too.
    donated = [i for i, arg in enumerate(program["args"]) if arg["becomes"] is not None]
    caches = donated if program["attention"] and not trains else []
    kept |= {"caches": caches, **answer}
    Path(program["mlir"]).unlink()
    if "memory" in answer:
        module = Path(program["hlo"])
        packed = module.with_suffix(".hlo.gz")
        packed.write_bytes(gzip.compress(module.read_bytes(), mtime=0))
        module.unlink()
        kept["hlo"] = packed.name
    return kept


_PACKAGES = ("torch", "torch_tpu", "libtpu")


def _installed(request: CompileRequest) -> dict[str, str]:
    """Versions in the children's interpreter; RunFailedError naming what it lacks."""
    answer = Interpreter(path=request.python).versions(_PACKAGES)
    missing = [name for name, version in answer.items() if version is None]
    if missing:
        raise RunFailedError(
            f"no TPU compiler: {', '.join(missing)} missing; pip install 'tpubench[compile]',"
            " or name an interpreter that has it with --python"
        )
    return {name: version for name, version in answer.items() if version is not None}
