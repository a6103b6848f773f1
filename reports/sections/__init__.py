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
        found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")
    )
    made = [importlib.import_module(f"{__name__}.{name}").section(findings) for name in names]
    return [section for section in made if section is not None]
