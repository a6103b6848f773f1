"""The sections of the page, one file each, in the order of their file names.

A section module defines ``section(findings) -> Section | None``; None leaves it out. Adding one
is adding a file here. Files whose name begins with ``_`` are not sections.
"""

from __future__ import annotations

import importlib
import pkgutil

from tpubench.reports.blocks import Section
from tpubench.reports.findings import Findings


def sections(findings: Findings) -> list[Section]:
    """Every section that has something to say about these findings."""
    names = sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )
    parts = [importlib.import_module(f"{__name__}.{name}").section(findings) for name in names]
    return [section for section in parts if section is not None]
