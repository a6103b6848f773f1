"""Which corrections a prediction may need: the components of the regression, row by row.

An effect of speed is scaled by the part of the time that depends on speed at all; the effect of
a class of work (matrix products on this chip, cache reads by this software …) by that class's
share of the time. So one fit serves every bottleneck: where HBM binds, only HBM's corrections
count.

Scales. A size enters as the natural logarithm of its ratio to a usual one (width or length 4,096,
64 chips, a batch of 64 …): that only says where the bias is read. A slope counts at most 4 either
way, a factor of 55 or four years, so that nothing further is extrapolated. Rows agree in a smooth
effect by exp(−d²/2), d the distance in units of what its coordinates are divided by: 0.7 is a
factor of 2 in a width or a length, 1 of e, 1.2 of 3.3, 1.5 of 4.5. They were chosen, not fitted.
"""

from __future__ import annotations

from math import log

from tpubench.estimates.problem import Images, Problem, Serving, Training
from tpubench.estimates.regression.process import Component, Design
from tpubench.estimates.roofline.replica import group_size
from tpubench.estimates.roofline.terms import Terms

GROUPS = ("training", "serving", "samples")
NOISE = {
    "training": ("step", "target"),
    "serving": ("offline", "steps", "first", "flow", "queries"),
    "samples": ("rate", "target"),
}
"""Noise classes of each group of problems."""

_EXPECTED = (
    ("flag-unpacked", 0.45), ("flag-", 0.2), ("target-model", 0.33), ("target-", 0.14),
    ("bias", 0.14), ("bubble", 0.2), ("year-", 0.019), ("burst", 0.2), ("queue", 0.2),
    ("what", 0.098), ("scenario-", 0.033), ("scenario", 0.098), ("kind", 0.068),
    ("share-experts", 0.15), ("share-", 0.075), ("stated", 0.068), ("architecture", 0.053),
    ("vendor-", 0.026), ("vendor", 0.043), ("chip-precision", 0.033), ("chip", 0.036),
    ("generation", 0.036), ("software-", 0.026), ("software", 0.053), ("source", 0.068),
    ("family", 0.068), ("tuning", 0.068), ("remat", 0.04), ("width", 0.019), ("length", 0.019),
    ("micro", 0.019), ("tokens", 0.019), ("chips", 0.019), ("tensor", 0.019), ("pipeline", 0.019),
    ("expert", 0.019), ("smooth", 0.019), ("batch", 0.019), ("inputs", 0.019), ("outputs", 0.019),
    ("size", 0.019),
)  # fmt: skip
"""Deviations expected of components, by the beginning of their name, first match counts: what is
usual between devices, software and so on. 3.8 % for all others."""


def expected_sd(name: str) -> float:
    """The deviation expected of a component before any data."""
    return next((sd for start, sd in _EXPECTED if name.startswith(start)), 0.038)


def expected_sd_of_samples(name: str) -> float:
    """The same for programs that are not language models: their work is less well known."""
    return 0.4 if name in {"model", "bias", "target-model"} else expected_sd(name)


def group(problem: Problem) -> str:
    """Which of the three fits a problem belongs to."""
    return problem.kind if problem.kind in {"training", "samples"} else "serving"


def noise_class(problem: Problem) -> int:
    """Index into :data:`NOISE` of a problem's group."""
    if problem.kind in {"training", "samples"}:
        return int(problem.metric == "time_to_train_s")
    if problem.metric == "ttft_s" and problem.kind != "prefill":
        return 2
    if problem.kind == "queries":
        return 4
    if problem.kind == "offline":
        return 0
    if problem.kind in {"server", "concurrency"}:
        return 3
    return 1


def design(problem: Problem, terms: Terms) -> Design:
    """The components of one problem."""
    if isinstance(problem, Training):
        return _training(problem, terms)
    if isinstance(problem, Images):
        return _samples(problem, terms)
    assert isinstance(problem, Serving)
    return _serving(problem, terms)


def _cats(value: float, **levels: str) -> Design:
    return {name.replace("_", "-"): Component(level=level, value=value)
            for name, level in levels.items()}  # fmt: skip


def _slope(name: str, level: str, value: float) -> Design:
    return {name: Component(level=level, value=max(-4.0, min(4.0, value)))}


def architecture(problem: Problem) -> str:
    """dense, experts or unknown-experts: which kind of model."""
    shape = problem.shape
    if shape is None:
        return "none"
    if shape.attention_layers < shape.layers:
        return "hybrid"
    return "experts" if shape.experts else "dense"


def _vendor(problem: Problem) -> str:
    return "tpu" if problem.chip.is_tpu else problem.chip.vendor.lower()


def _common(problem: Problem, value: float) -> Design:
    chip, software, precision = problem.chip.name, problem.software, problem.precision
    vendor, model, arch = _vendor(problem), problem.model, architecture(problem)
    design = _cats(
        value,
        bias="all",
        vendor=vendor,
        generation=problem.chip.architecture,
        chip=chip,
        precision=f"{precision}",
        vendor_precision=f"{vendor} {precision}",
        chip_precision=f"{chip} {precision}",
        software=software,
        software_chip=f"{software} {chip}",
        software_precision=f"{software} {precision}",
        source=problem.source,
        family=problem.family,
        model=model,
        model_vendor=f"{model} {vendor}",
        model_chip=f"{model} {chip}",
        model_precision=f"{model} {precision}",
        model_software=f"{model} {software}",
        architecture=f"{arch} {vendor}",
        architecture_chip=f"{arch} {chip}",
        architecture_software=f"{arch} {software}",
        architecture_precision=f"{arch} {precision} {vendor}",
    )
    design |= {
        f"stated-{problem.precision_stated}": Component(level=software, value=value),
    }
    if problem.shape is not None and not problem.shape.known:
        design["unknown-shape"] = Component(level="all", value=value)
    design |= _slope("year", software, value * (problem.date - 2025.0))
    design |= _slope("year-vendor", vendor, value * (problem.date - 2025.0))
    design |= _slope("year-generation", problem.chip.architecture, value * (problem.date - 2025.0))
    return design


def _training(problem: Training, terms: Terms) -> Design:
    assert terms.detail is not None
    chip, software, precision = problem.chip.name, problem.software, problem.precision
    vendor, shape, shares = _vendor(problem), problem.shape, terms.shares()
    generation = problem.chip.architecture
    seq_len = problem.seq_len or 4096.0
    design = _common(problem, 1.0)
    spread = f"tp{problem.tensor} pp{problem.pipeline} ep{problem.expert} cp{problem.context}"
    config = f"{software} {chip} {problem.model} {precision}"
    design |= _cats(
        1.0,
        config=config,
        config_spread=f"{config} {spread} {problem.chips} {seq_len:g}",
        remat=f"{problem.remat} {software}",
        remat_chip=f"{problem.remat} {vendor}",
        tuning=problem.tuning,
        tuning_software=f"{problem.tuning} {software}",
        laid_out=f"{problem.layout_stated} {software}",
    )
    for flag in problem.notes:
        design[f"flag-{flag}"] = Component(level="all")
    if problem.offload:
        design["offload"] = Component(level=software)
    for name in ("attention", "experts", "memory", "link"):
        share = shares.get(name, 0.0)
        design[f"share-{name}"] = Component(level=vendor, value=share)
        design[f"share-{name}-chip"] = Component(level=chip, value=share)
        design[f"share-{name}-software"] = Component(level=software, value=share)
    d = log(shape.d_model / 4096)
    length = log(seq_len / 4096)
    micro = log(max(terms.detail["micro_tokens"], 1.0) / 4096)
    tokens = log(max(terms.detail["tokens_per_chip"], 1.0) / 16384)
    chips = log(problem.chips / 64)
    for name, value in (
        ("width", d), ("length", length), ("micro", micro), ("tokens", tokens), ("chips", chips),
    ):  # fmt: skip
        design |= _slope(f"{name}", "all", value)
        design |= _slope(f"{name}-vendor", vendor, value)
        design |= _slope(f"{name}-software", software, value)
        design |= _slope(f"{name}-precision", f"{precision} {generation}", value)
    design |= _slope("tensor", vendor, log(problem.tensor))
    design |= _slope("tensor-software", software, log(problem.tensor))
    design |= _slope("pipeline", vendor, log(problem.pipeline))
    design |= _slope("bubble", vendor, terms.detail["bubble"])
    design |= _slope("expert", vendor, log(problem.expert))
    design |= _slope("context", vendor, log(problem.context))
    design |= _slope("slices", chip, log(problem.slices))
    design |= _slope("slices-model", f"{chip} {problem.model}", log(problem.slices))
    design |= _slope("link-ratio", vendor, min(terms.detail["link_ratio"], 4.0))
    if shape.experts:
        design |= _slope("sparsity", vendor, log(shape.experts / max(shape.top_k, 1) / 16))
    place = (d / 0.7, length / 0.7, micro / 1.0)
    design["smooth"] = Component(level="all", point=place)
    design["smooth-generation"] = Component(level=generation, point=place)
    design["smooth-chip"] = Component(level=f"{chip} {precision}", point=place)
    design["smooth-software"] = Component(level=software, point=place)
    design["smooth-scale"] = Component(
        level=f"{software} {chip}", point=(chips / 1.0, tokens / 1.0, d / 0.7)
    )
    if problem.metric in {"flop_s_per_chip", "mfu", "hfu"}:
        design["counted"] = Component(level=software)
        design["counted-model"] = Component(level=f"{software} {problem.model}")
        design["counted-metric"] = Component(level=problem.metric)
    if problem.metric == "time_to_train_s":
        batch = log((problem.global_batch or 1024.0) / 1024)
        design["target-model"] = Component(level=problem.model)
        design |= _slope("target-batch", problem.model, batch)
        design["target-smooth"] = Component(level=problem.model, point=(batch / 0.7,))
    return design


def _serving(problem: Serving, terms: Terms) -> Design:
    shares = terms.shares()
    bound = 1.0 - shares.get("arrival", 0.0)
    group = group_size(problem)
    chip, software, precision = problem.chip.name, problem.software, problem.precision
    vendor, shape, model = _vendor(problem), problem.shape, problem.model
    design = _common(problem, bound)
    what = {"ttft_s": "first", "itl_s": "gap", "tpot_s": "gap"}.get(problem.metric, "rate")
    design |= _cats(
        bound,
        kind=problem.kind,
        kind_software=f"{problem.kind} {software}",
        what=f"{what} {problem.kind}",
        what_software=f"{what} {problem.kind} {software}",
        what_model=f"{what} {problem.kind} {software} {model}",
        scenario=problem.scenario,
        scenario_software=f"{problem.scenario} {software}",
        scenario_chip=f"{problem.scenario} {chip}",
        scenario_model=f"{problem.scenario} {model}",
        scenario_model_chip=f"{problem.scenario} {model} {chip}",
        cache_precision=f"{problem.kv_precision} {software}",
        weight_only=f"{problem.weight_only} {precision} {software}",
        groups=f"{software} {group}",
        config=f"{software} {chip} {model} {precision}",
        config_groups=f"{software} {chip} {model} {precision} {group} {problem.chips}",
        lengths=f"{'variable' if problem.variable else 'fixed'} {software}",
        metric=f"{problem.metric} {software}",
    )
    for name in (
        "matmul",
        "experts",
        "attention",
        "decode",
        "weights",
        "cache",
        "link",
        "host",
        "arrival",
    ):
        share = shares.get(name, 0.0)
        design[f"share-{name}"] = Component(level="all", value=share)
        design[f"share-{name}-vendor"] = Component(level=vendor, value=share)
        design[f"share-{name}-software"] = Component(level=software, value=share)
        design[f"share-{name}-chip"] = Component(level=chip, value=share)
        if name in {"matmul", "decode", "weights", "host"}:
            design[f"share-{name}-precision"] = Component(
                level=f"{vendor} {precision}", value=share
            )
    batch = log(max(terms.batch, 1.0) / 64)
    inputs = log(max(problem.input_len or 1.0, 1.0) / 1024)
    outputs = log(max(problem.output_len or 1.0, 1.0) / 512)
    size = log(shape.active / 1e10)
    tensor = log(group)
    for name, value in (("batch", batch), ("inputs", inputs), ("outputs", outputs), ("size", size),
                        ("tensor", tensor)):  # fmt: skip
        design |= _slope(name, what, bound * value)
        design |= _slope(f"{name}-software", f"{software} {what}", bound * value)
        design |= _slope(f"{name}-vendor", vendor, bound * value)
    design |= _slope("tensor-chip", chip, bound * tensor)
    design |= _slope("tensor-model", f"{software} {model}", bound * tensor)
    place = (inputs / 1.2, outputs / 1.2, batch / 1.5)
    design["smooth"] = Component(level=what, value=bound, point=place)
    design["smooth-software"] = Component(level=f"{software} {what}", value=bound, point=place)
    design["smooth-model"] = Component(
        level=f"{software} {what} {model} {precision}", value=bound, point=place
    )
    design["smooth-chip"] = Component(
        level=f"{software} {what} {chip} {precision}", value=bound, point=place
    )
    design["smooth-architecture"] = Component(
        level=f"{architecture(problem)} {software}", value=bound, point=place
    )
    if problem.kind == "server":
        rate = min(problem.qps or 1e3, 64.0)
        design["flow"] = Component(level=what, point=(log(rate) / 1.0, batch / 1.5))
        design["flow-model"] = Component(
            level=f"{what} {model}", point=(log(rate) / 1.0, batch / 1.5)
        )
    if what == "first" and problem.kind == "concurrency":
        queue = log(max(problem.batch or 1.0, 1.0) / 32)
        design |= _slope("queue", software, queue)
        design["burst"] = Component(level=f"{'burst' in problem.notes} {software}")
    return design


def _samples(problem: Images, terms: Terms) -> Design:
    name, vendor, chip = problem.work.name, _vendor(problem), problem.chip.name
    design = _cats(
        1.0,
        bias="all",
        vendor=vendor,
        generation=problem.chip.architecture,
        chip=chip,
        precision=f"{vendor} {problem.precision}",
        chip_precision=f"{chip} {problem.precision}",
        software=problem.software,
        source=problem.source,
        family=problem.family,
        model=name,
        model_vendor=f"{name} {vendor}",
        model_generation=f"{name} {problem.chip.architecture}",
        model_chip=f"{name} {chip}",
        model_software=f"{name} {problem.software}",
        scenario=problem.scenario,
        scenario_vendor=f"{problem.scenario} {vendor}",
        scenario_model=f"{problem.scenario} {name}",
        metric=f"{problem.metric} {name}",
    )
    for flag in problem.notes:
        design[f"flag-{flag}"] = Component(level="all")
    chips = log(problem.chips / 8)
    design |= _slope("chips", name, chips)
    design |= _slope("year", name, problem.date - 2025.0)
    if problem.metric == "time_to_train_s":
        batch = log((problem.global_batch or 1024.0) / 1024)
        design["target-model"] = Component(level=name)
        design |= _slope("target-batch", name, batch)
        design["target-smooth"] = Component(level=name, point=(batch / 0.7,))
    if problem.global_batch:
        design |= _slope("per-chip", name, log(problem.global_batch / problem.chips / 16))
    return design
