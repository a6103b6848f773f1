"""Readers of other tools' price catalogues; one module is one format.

A module offers ``read(path, provider, as_of) -> ImportedPrices`` and is found by its name.
Catalogues carry no dates, so the day on which they were downloaded is asked for.
"""

from __future__ import annotations

import datetime as dt
import importlib
import pkgutil
from pathlib import Path

from tpubench.costs.importers._catalogue import ImportedPrices, RejectedOffer
from tpubench.costs.price_files import write_prices
from tpubench.errors import UsageError

__all__ = ["ImportedPrices", "RejectedOffer", "formats", "import_prices", "read_catalogue"]


def formats() -> list[str]:
    """Names of the catalogue formats."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in names if not name.startswith("_"))


def read_catalogue(
    format_name: str, path: Path, as_of: dt.date | None, provider: str | None = None
) -> ImportedPrices:
    """The prices of one catalogue file, and every row that was left out, with the reason.

    UsageError for an unknown format, an unreadable file or a missing date.
    """
    if format_name not in formats():
        raise UsageError(f"unknown format {format_name!r}; known: {', '.join(formats())}")
    if as_of is None:
        raise UsageError(
            f"{path} carries no dates: give the day it was downloaded with --as-of YYYY-MM-DD"
        )
    module = importlib.import_module(f"{__name__}.{format_name}")
    imported: ImportedPrices = module.read(path, provider, as_of)
    return imported


def import_prices(
    format_name: str, path: Path, as_of: str | None, provider: str | None, out: Path | None
) -> tuple[ImportedPrices, Path]:
    """Read a catalogue and write its prices as a table; returns both.

    UsageError for a day that is no date, a catalogue that cannot be read, or a table that is not
    written.
    """
    day: dt.date | None = None
    if as_of is not None:
        try:
            day = dt.date.fromisoformat(as_of)
        except ValueError:
            raise UsageError(f"--as-of {as_of!r} is not a date such as 2026-10-01") from None
    imported = read_catalogue(format_name, path, day, provider)
    name = path.parent.name if path.stem == "vms" else path.stem
    written = out or Path(f"prices-{format_name}-{name}-{as_of}.csv")
    write_prices(written, imported.prices)
    return imported, written
