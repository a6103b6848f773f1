"""What drivers, catalogues, tables and people call a device, and its one canonical name.

Two answers to one question. :func:`canonical` is strict: a name that leaves the variant open, or
says a word that is not understood, is no device. :func:`likeliest` takes the usual variant and says
that it did; nothing that is stored as measured may use it.

A GPU's name is read as words in any order: its family (``h100``), its board (``sxm``, ``pcie``),
its memory (``80gb``) and words that say nothing about the variant. The variants are those of the
data sheets, so a new sheet needs no entry here unless its name has words of its own.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from tpubench.devices.sheets import GOOGLE, devices

LONGEST = 200
"""Characters of the longest name that is looked at."""

_SILENT = frozenset(
    [
        "nvidia",
        "amd",
        "tesla",
        "instinct",
        "gpu",
        "gpus",
        "tensor",
        "core",
        "cores",
        "accelerator",
        "graphics",
        "card",
        "virtualized",
        "ampere",
        "hopper",
        "ada",
        "lovelace",
        "blackwell",
        "ultra",
        "grace",
        "gracehopper",
        "superchip",
        "cdna",
        "ac",
        "hbm2",
        "hbm2e",
        "hbm3",
        "hbm3e",
        "gddr6",
        "nps1",
        "spx",
        "cts",
    ]
)
"""Words that leave the variant as it is. NPS1 and SPX: one memory domain, one partition; CTS:
another cooler."""
_BOARDS = {
    "sxm": "sxm", "sxm4": "sxm", "sxm5": "sxm", "sxm6": "sxm", "hgx": "sxm", "dgx": "sxm",
    "mega": "sxm", "pcie": "pcie", "nvl": "nvl", "oam": "oam", "nvl72": "superchip",
    "nvl36": "superchip", "nvl4": "superchip", "nvl2": "superchip",
}  # fmt: skip
_PLAIN = {"h200": "sxm"}
"""Boards of families whose bare name the driver uses for one of several boards."""
_USUAL = {
    "h100": ("sxm", 80), "h200": ("sxm", 141), "a100": ("sxm", 80), "gh200": ("superchip", 96),
}  # fmt: skip
"""What a name that leaves the variant open most often means: board, and gigabytes of memory."""
_ELSEWHERE = (("a100", "pcie", 40), ("h200", "nvl", 141))
"""Variants that exist and have no sheet: names that may mean them are not taken for others."""
_MEMORY_TOLERANCE = 0.08
"""Sheets, drivers and sellers round the same memory by up to 8 % (a B300: 262 to 288 GB)."""
_WHOLE = {
    "trillium": "tpu-v6e", "cloud tpu trillium": "tpu-v6e", "tpu trillium": "tpu-v6e",
    "google trillium": "tpu-v6e", "ironwood": "tpu-v7", "tpu ironwood": "tpu-v7",
    "google ironwood": "tpu-v7", "cloud tpu ironwood": "tpu-v7",
    # The driver counts the CPU's memory of a superchip, not the GPU's.
    "nvidia gh200 480gb": "nvidia-gh200-96gb",
}  # fmt: skip
_TPU_GENERATIONS = (
    ("2", "tpu-v2"),
    ("3", "tpu-v3"),
    ("4", "tpu-v4"),
    (r"5 ?e|5 ?lite(?: ?pod)?", "tpu-v5e"),
    ("5 ?p", "tpu-v5p"),
    # Google's previews wrote plain v6 for what became v6e.
    ("6 ?e?|6 ?lite", "tpu-v6e"),
    ("7 ?x?", "tpu-v7"),
)
_TPU_MACHINES = (
    (r"ct4p hightpu", "tpu-v4"),
    (r"ct5lp? hightpu", "tpu-v5e"),
    (r"ct5p hightpu", "tpu-v5p"),
    (r"ct6e standard", "tpu-v6e"),
    (r"tpu7x standard", "tpu-v7"),
)
"""Google's machine types; the number before the t at their end counts chips."""
_TPUS = tuple(
    (
        re.compile(
            rf"(?:google )?(?:cloud )?(?:tpu ?v?|v)(?:{generation})"
            r"(?: (?:pod|podslice|slice|device|chip))?(?: \d+)?(?: trillium| ironwood)?"
        ),
        name,
    )
    for generation, name in _TPU_GENERATIONS
) + tuple((re.compile(rf"{machine} \d+t"), name) for machine, name in _TPU_MACHINES)

_MACHINE_BOARDS = tuple(
    (re.compile(pattern), board)
    for pattern, board in (
        (r"a2-|a3-|p4de?\.|p5\.", "sxm"),
        (r"bm\.gpu4\.8|bm\.gpu\.(a100|h100)", "sxm"),
        (r"standard_nd\d+.*_(a100|h100)", "sxm"),
        (r"standard_nc\d+.*_a100", "pcie"),
        (r"standard_nc\d+.*_h100", "nvl"),
    )
)
"""Machine types whose board is known from the provider's documentation of the family."""

_GOOGLE_PCI = "0x1ae0"
_PCI = {
    "0x0027": "tpu",  # v2 and v3 share an id: the generation is left open
    "0x005e": "tpu-v4",
    "0x0062": "tpu-v5p",
    "0x0063": "tpu-v5e",
    "0x006f": "tpu-v6e",
    "0x0076": "tpu-v7",
}
"""PCI device ids that torch_tpu 0.2.0 and torch_xla 2.9.0 scan for (read 2026-11-22)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """The device that a loose name most likely means."""

    device: str
    assumed: str | None
    """What had to be assumed, for the reader; None where the name was clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    family: str
    board: str
    memory_bytes: float
    device: str | None
    """None for a variant that has no sheet."""


def canonical(raw: str) -> str | None:
    """The canonical name for what a driver, a catalogue or a person calls a device.

    None when the name is unknown or leaves the variant open (a bare ``H100`` may be SXM, PCIe or
    NVL): an answer is never guessed. Slice names such as ``v5p-8`` name their chip.
    """
    if len(raw) > LONGEST:
        return None
    words = _words(raw)
    if "-".join(words) in devices():
        return "-".join(words)
    text = " ".join(words)
    if text in _WHOLE:
        return _WHOLE[text]
    for pattern, name in _TPUS:
        if pattern.fullmatch(text):
            return name
    return _gpu(words, strict=True)


def likeliest(raw: str) -> Likely | None:
    """The device that a published table most likely means; None when no sheet fits."""
    if len(raw) > LONGEST:
        return None
    plain = re.sub(r"\(.*?\)", " ", raw)
    for text in (raw, plain, re.sub(r"\s*\d+\s*(gi?b).*$", "", plain, flags=re.I)):
        name = canonical(text)
        if name is not None:
            return Likely(device=name, assumed=None)
    words = _words(raw)
    name = _gpu(words, strict=False)
    if name is not None:
        return Likely(device=name, assumed=None)
    family = next((word for word in words if word in _USUAL), None)
    if family is None:
        return None
    board, gigabytes = _USUAL[family]
    said = next((size for size in map(_gigabytes, words) if size), gigabytes)
    boards = {_BOARDS[word] for word in words if word in _BOARDS} or {board}
    chosen = None
    for on, of in ((boards, said), (boards, gigabytes), ({board}, said), ({board}, gigabytes)):
        chosen = chosen or _fitting(family, on, of)
    return Likely(device=chosen, assumed=f"{family.upper()} taken as {chosen}") if chosen else None


def in_machine(raw: str, machine: str) -> str | None:
    """The canonical name of a catalogue's GPU, with the machine type to settle the board.

    A catalogue that says only ``A100`` means the 40 GB one. None where neither says which of SXM,
    PCIe and NVL it is.
    """
    low = machine.lower()
    board = next((part for part in ("pcie", "nvl", "sxm") if part in low), None)
    if board is None:
        board = next((kind for family, kind in _MACHINE_BOARDS if family.match(low)), None)
    words = _words(raw)
    if board is None or not {"a100", "h100"} & set(words) or _BOARDS.keys() & set(words):
        return canonical(raw)
    if "a100" in words and not any(_gigabytes(word) for word in words):
        words.append("40gb")
    return _gpu([*words, board], strict=True)


def of_pci(vendor_id: str, device_id: str) -> str | None:
    """The TPU behind the ids of a PCI device, as sysfs writes them; None for anything else."""
    return _PCI.get(device_id) if vendor_id == _GOOGLE_PCI else None


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


def _words(raw: str) -> list[str]:
    """Lower-case words of a name, a number and its GB as one."""
    text = re.sub(r"(\d)\s*gi?b\b", r"\1gb ", raw.lower())
    return re.findall(r"[a-z0-9]+", text)


def _gigabytes(word: str) -> int | None:
    match = re.fullmatch(r"(\d{1,4})gb?", word)
    return int(match[1]) if match else None


def _gpu(words: list[str], *, strict: bool) -> str | None:
    """The GPU that the words name, if they fit one variant; strictly, if all are understood."""
    families = _families()
    named = [word for word in words if word in families]
    if len(set(named)) != 1:
        return None
    family = named[0]
    boards, gigabytes = set(), None
    for word in words:
        if word in _BOARDS:
            boards.add(_BOARDS[word])
        elif _gigabytes(word) is not None:
            gigabytes = _gigabytes(word)
        elif strict and word != family and word not in _SILENT and not re.fullmatch(r"\d+w", word):
            return None
    if "nvl" in boards:  # an NVL card is a PCIe card as well
        boards = {"nvl"}
    if not boards and family == "h100" and "hbm3" in words and gigabytes == 80:
        boards = {"sxm"}  # the driver's name of it: the 80 GB PCIe card has HBM2e
    if not boards and family in _PLAIN:
        boards = {_PLAIN[family]}
    if not boards and len({v.board for v in _variants() if v.family == family}) > 1:
        return None
    return _fitting(family, boards, gigabytes)


def _fitting(family: str, boards: set[str], gigabytes: int | None) -> str | None:
    """The one variant of a family with that board and memory; None where several or none fit."""
    fitting = {
        variant.device
        for variant in _variants()
        if variant.family == family
        and boards <= {variant.board}
        and (gigabytes is None or _same_memory(gigabytes, variant.memory_bytes))
    }
    return fitting.pop() if len(fitting) == 1 else None


def _same_memory(gigabytes: int, memory_bytes: float) -> bool:
    """Whether so many GB, or GiB, are that memory."""
    return any(
        abs(gigabytes * unit / memory_bytes - 1) <= _MEMORY_TOLERANCE for unit in (1e9, 2**30)
    )


@functools.cache
def _variants() -> tuple[_Variant, ...]:
    sheets = (
        _Variant(
            family=sheet.name.split("-")[1],
            board=sheet.form,
            memory_bytes=sheet.hbm_bytes,
            device=sheet.name,
        )
        for sheet in devices().values()
        if sheet.vendor != GOOGLE
    )
    elsewhere = (
        _Variant(family=family, board=board, memory_bytes=gigabytes * 1e9, device=None)
        for family, board, gigabytes in _ELSEWHERE
    )
    return (*sheets, *elsewhere)


@functools.cache
def _families() -> frozenset[str]:
    return frozenset(variant.family for variant in _variants())
