"""What both layouts of published tables state alike: device, software, model, source."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tpubench.estimates.problem import Problem
from tpubench.estimates.published.cells import (
    SkipError,
    number,
    size,
    software_family,
    source_family,
    year,
)
from tpubench.estimates.roofline.chips import resolve
from tpubench.suite import decoders


def common(row: Mapping[str, str]) -> Problem:
    """What both layouts state alike; SkipError without a data sheet.

    The kind is empty, and the chips are 0 where the row does not say how many.
    """
    chip = resolve(row["device"])
    if chip is None:
        raise SkipError("no data sheet for the device")
    chips = number(row["chips"])
    if chips is not None and not 1 <= chips <= 1e6:
        raise SkipError("number of chips out of range")
    params = size(row["params_b"])
    text = row["model"]
    shape = decoders.find_decoder(text, params * 1e9 if params else None)
    active = re.search(r"active params B=(\d+(?:\.\d+)?)", row.get("notes", ""))
    if active and params and not (shape and shape.known):
        shape = decoders.derived(text, params * 1e9, float(active[1]) * 1e9)
    return Problem(
        kind="",
        metric=row["metric"].strip().lower(),
        chip=chip,
        chips=int(chips) if chips else 0,
        software=software_family(row["software"]),
        source=row["source_id"] or "unnamed",
        family=source_family(row["source_id"] or "unnamed"),
        date=year(row.get("source_date", "")),
        model=shape.name if shape and shape.known else decoders.words(text) or text,
        shape=shape,
    )
