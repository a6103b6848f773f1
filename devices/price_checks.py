"""Checks that a price table must pass: what cannot be true, and what is probably something else.

A price that fails one is kept with a note that starts SUSPECT: it is shown so, and nothing is
priced at it unless it is asked for by its id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tpubench.devices.prices import Price
from tpubench.devices.sheets import devices

WINDOWS_USD_PER_VCPU_HOUR = 0.046
"""A Windows licence at AWS, Azure and Google, by the vCPU (p3.16xlarge, 64 vCPUs: $27.424 against
$24.48; instances.vantage.sh via github.com/tsaol/aws-gpu @2d0108c, 2025-11-30)."""
_LICENSED = {"aws", "azure", "gcp"}
_VCPUS_A_GPU = range(8, 65, 2)
"""Of machines with such GPUs: from 12 (a2-highgpu) to 64 and below."""
_ROUNDING = 0.02
"""vCPUs by which a licence may be off: prices have three digits and more."""


def before_sale(price: Price) -> str | None:
    """Why the price's date cannot be true: its chip was not sold then; None when it was."""
    sheet = devices().get(price.accelerator)
    if sheet is None or price.as_of >= sheet.on_sale:
        return None
    return f"dated {price.as_of}, before its chip was sold ({sheet.on_sale})"


def windows_licences(entries: Iterable[Price]) -> dict[str, str]:
    """Price id to why it is probably a Windows machine's.

    Such an on-demand price is above the cheapest of the same provider, region, device and day by a
    licence for a whole, even number of vCPUs a GPU.
    """
    siblings: dict[tuple[object, ...], list[Price]] = defaultdict(list)
    for entry in entries:
        if entry.provider in _LICENSED and (entry.layer, entry.term) == ("list", "on_demand"):
            key = (entry.provider, entry.region, entry.accelerator, entry.as_of)
            siblings[key].append(entry)
    suspects: dict[str, str] = {}
    for group in siblings.values():
        plain = min(entry.usd_per_chip_hour for entry in group)
        for entry in group:
            vcpus = (entry.usd_per_chip_hour - plain) / WINDOWS_USD_PER_VCPU_HOUR
            whole = round(vcpus)
            if whole in _VCPUS_A_GPU and abs(vcpus - whole) <= _ROUNDING:
                suspects[entry.id] = (
                    f"Windows: above its sibling by what a licence for {whole} vCPUs a GPU costs"
                )
    return suspects


def flagged(entries: Sequence[Price]) -> list[Price]:
    """The entries, those that fail a check with a note that says so."""
    windows = windows_licences(entries)
    checked = []
    for entry in entries:
        why = before_sale(entry) or windows.get(entry.id)
        if why is not None and not entry.suspect:
            entry = replace(entry, note=f"SUSPECT {why}; {entry.note}".rstrip("; "))
        checked.append(entry)
    return checked
