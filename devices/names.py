"""What drivers, catalogues, tables and people call a device, and its one canonical name."""

from __future__ import annotations

import re

from tpubench.devices.sheets import devices


def canonical(raw: str) -> str | None:
    """The canonical name for what a driver, a catalogue or a person calls a device.

    None when the name is unknown or leaves the variant open (a bare ``H100`` may be SXM, PCIe or
    NVL): an answer is never guessed. Slice names such as ``v5p-8`` name their chip.
    """
    name = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")
    if name in devices():
        return name
    for pattern, found in _NAMES:
        if pattern.fullmatch(name):
            return found
    return None


def chips_in_slice(name: str) -> int | None:
    """Physical chips of a Cloud TPU slice name; None where the name does not say.

    ``v2-N``, ``v3-N``, ``v4-N`` and ``v5p-N`` count TensorCores, two to a chip; ``v5e-N``,
    ``v5litepod-N`` and ``v6e-N`` count chips (cloud.google.com/tpu/docs, read 2026-11-22).
    Words before and after (``cloud-tpu-v5p-128-maxtext``) are no hindrance.
    """
    match = re.fullmatch(
        r"(?:[a-z]+-)*(v2|v3|v4|v5p|v5e|v5litepod|v6e|trillium)-(\d{1,6})(?:-[a-z]+)*", name.lower()
    )
    if match is None:
        return None
    kind, count = match[1], int(match[2])
    if kind in {"v5e", "v5litepod", "v6e", "trillium"}:
        return count or None
    return count // 2 if count and count % 2 == 0 else None


def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Name patterns over lower-case words joined by single hyphens, most specific first."""
    tpu = {
        "2": "tpu-v2",
        "3": "tpu-v3",
        "4": "tpu-v4",
        "5-?e|5-?lite(?:-?pod)?": "tpu-v5e",
        "5-?p": "tpu-v5p",
        # Google's previews wrote plain v6 for what became v6e.
        "6-?e?|6-?lite": "tpu-v6e",
        "7-?x?": "tpu-v7",
    }
    slice_tail = r"(?:-(?:pod|podslice|slice|device|chip))?(?:-\d+)?(?:-trillium|-ironwood)?"
    found = [
        (rf"(?:google-)?(?:cloud-)?(?:tpu-?v?|v)(?:{generation}){slice_tail}", name)
        for generation, name in tpu.items()
    ]
    found += [
        (r"(?:google-)?(?:cloud-)?(?:tpu-)?trillium", "tpu-v6e"),
        (r"(?:google-)?(?:cloud-)?(?:tpu-)?ironwood", "tpu-v7"),
    ]
    nvidia = {
        r"a100-sxm(?:4|-4)?-?40gb|a100-40gb-sxm4?": "nvidia-a100-sxm-40gb",
        r"a100-sxm(?:4|-4)?-?80gb|a100-80gb-sxm4?": "nvidia-a100-sxm-80gb",
        r"a100-pcie-80gb|a100-80gb-pcie": "nvidia-a100-pcie-80gb",
        r"h100-(?:sxm5?|80gb-hbm3|sxm5?-80gb(?:-hbm3)?|80gb-sxm5?|hgx|mega(?:-80gb)?)"
        r"|dgx-h100|hgx-h100": "nvidia-h100-sxm",
        r"h100-(?:pcie|pcie-80gb|80gb-pcie)": "nvidia-h100-pcie",
        r"h100-(?:nvl|nvl-94gb|94gb-nvl)": "nvidia-h100-nvl",
        r"h200(?:-sxm5?)?(?:-141gb)?|h200-141gb-hbm3e|dgx-h200|hgx-h200": "nvidia-h200-sxm",
        r"b200(?:-sxm6?)?(?:-180gb)?|dgx-b200|hgx-b200": "nvidia-b200-sxm",
        r"b300(?:-sxm6?)?(?:-ac)?|dgx-b300|hgx-b300": "nvidia-b300-sxm",
        r"gb200(?:-nvl(?:72|4))?(?:-\d+gb)?": "nvidia-gb200",
        r"gb300(?:-nvl72)?(?:-\d+gb)?": "nvidia-gb300",
        r"l4(?:-pcie)?(?:-24gb)?": "nvidia-l4",
        r"l40s": "nvidia-l40s",
    }
    found += [(rf"(?:nvidia-)?(?:tesla-)?(?:{names})", name) for names, name in nvidia.items()]
    found += [
        (
            rf"(?:amd-)?(?:instinct-)?mi{model}(?:-oam)?(?:-\d+gb)?(?:-hbm3e?)?",
            f"amd-mi{model}",
        )
        for model in ("300x", "325x", "355x")
    ]
    return tuple((re.compile(pattern), name) for pattern, name in found)


_NAMES = _patterns()
