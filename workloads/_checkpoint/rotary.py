"""Rotary positions in a config.json: which values of a head turn, how fast, and how stretched.

Read in the old form (``rope_scaling`` with ``type`` or ``rope_type``, ``rope_theta`` beside it) and
the newer one (``rope_parameters`` with everything inside).
"""

from __future__ import annotations

from dataclasses import replace

from tpubench.workloads._checkpoint.families import Family
from tpubench.workloads._checkpoint.header import Header
from tpubench.workloads.llama.rope import RopeScaling, longrope_magnitude, yarn_magnitude

_PARTIAL = "partial_rotary_factor"
ROPE_KEYS = {"rope_type", "type", "rope_theta", _PARTIAL}
SCALING_KEYS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    },
    "yarn": {
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    },
    "longrope": {
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "short_factor",
        "long_factor",
    },
}


def rotary(
    header: Header, family: Family, head_dim: int, max_context: int
) -> tuple[int, float, RopeScaling | None]:
    """Values of each head that turn, rotary base, and scaling; UsageError naming the key of what is
    not supported."""
    stated = _stated(header)
    turned_dim = _turned_dim(header, stated, family, head_dim)
    return turned_dim, *_rope(header, stated, family, max_context, turned_dim)


def _stated(header: Header) -> Header:
    """What the file says of rotary positions, in either of its forms."""
    old, new = header.get("rope_scaling"), header.get("rope_parameters")
    if old and new and old != new:
        raise header.error("rope_scaling", "rope_parameters says something else")
    key = "rope_parameters" if new else "rope_scaling"
    values = new or old or {}
    if not isinstance(values, dict):
        raise header.error(key, "not a JSON object")
    prefix = f"{key}."
    inner = {prefix + name: value for name, value in values.items()}
    return Header(path=header.path, values=inner, prefix=prefix)


def _turned_dim(header: Header, rope: Header, family: Family, head_dim: int) -> int:
    """Values of each head that turn."""
    shares = [one.number(_PARTIAL, 0.0) for one in (rope, header) if one.get(_PARTIAL) is not None]
    if family.partial_rotary is None and any(share != 1.0 for share in shares):
        raise header.error(_PARTIAL, "partial rotary positions: not supported in this family")
    share = shares[0] if shares else family.partial_rotary or 1.0
    turned = int(head_dim * share)
    if all(one == 1.0 for one in (share, *shares)):
        return head_dim
    if share > 1 or any(other != share for other in shares) or turned < 2 or turned % 2:
        raise header.error(_PARTIAL, f"{share} of {head_dim} is no even number of values")
    return turned


def _rope(
    header: Header, rope: Header, family: Family, max_context: int, turned_dim: int
) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling."""
    kind = rope.text("rope_type", rope.text("type", "default"))
    if family.architecture == "Phi3ForCausalLM" and kind in ("su", "yarn"):
        kind = "longrope"  # what earlier files of this family call it
    if kind not in SCALING_KEYS:
        key = rope.prefix.removesuffix(".")
        raise header.error(key, f"supported rotary scalings: {', '.join(SCALING_KEYS)}")
    stated = {name.removeprefix(rope.prefix) for name in rope.values}
    for name in sorted(stated - ROPE_KEYS - SCALING_KEYS[kind]):
        if rope.get(name) is not None:
            raise rope.error(name, f"not supported with {kind} rotary scaling")
    theta = rope.number("rope_theta", header.number("rope_theta", 10_000.0))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=rope.number("factor"))
    original = rope.count("original_max_position_embeddings", max_context)
    original = header.count("original_max_position_embeddings", original)
    if kind == "yarn":
        return theta, _yarn(rope, original)
    if kind == "longrope":
        return theta, _longrope(rope, original, max_context, turned_dim // 2)
    return theta, RopeScaling(
        kind="llama3",
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context=original,
    )


def _longrope(rope: Header, original: int, max_context: int, pairs: int) -> RopeScaling:
    """LongRoPE within the original context, with the defaults of transformers."""
    short, _ = (_factors(rope, name, pairs) for name in ("short_factor", "long_factor"))
    factor = rope.number("factor", max_context / original)
    magnitude = longrope_magnitude(factor, original)
    if rope.is_set("attention_factor"):
        magnitude = rope.number("attention_factor")
    return RopeScaling(
        kind="longrope",
        factor=factor,
        original_context=original,
        magnitude=magnitude,
        pair_factors=short,
    )


def _factors(rope: Header, name: str, pairs: int) -> tuple[float, ...]:
    """What each pair's frequency is divided by."""
    values = rope.get(name)
    if not isinstance(values, list) or len(values) != pairs:
        raise rope.error(name, f"not a list of {pairs} numbers, one for each pair that turns")
    each = Header(path=rope.path, values={f"{rope.prefix}{name}": 1.0}, prefix=rope.prefix)
    return tuple(replace(each, values={f"{rope.prefix}{name}": v}).number(name) for v in values)


def _yarn(rope: Header, original: int) -> RopeScaling:
    """YaRN, with the defaults of transformers for what is not stated."""
    factor = rope.number("factor")
    magnitude = yarn_magnitude(factor)
    if rope.is_set("attention_factor"):
        magnitude = rope.number("attention_factor")
    elif rope.is_set("mscale") and rope.is_set("mscale_all_dim"):
        whole = yarn_magnitude(factor, rope.number("mscale_all_dim"))
        magnitude = yarn_magnitude(factor, rope.number("mscale")) / whole
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        fast_turns=rope.number("beta_fast", 32.0),
        slow_turns=rope.number("beta_slow", 1.0),
        magnitude=magnitude,
        whole_pairs=rope.flag("truncate", True),
    )
