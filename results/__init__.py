"""Facts: the stored row, the store, metrics, statistics and the machine's fingerprint.

From Python, :func:`read` is the door::

    import tpubench.results
    frame = tpubench.results.read("bench-results", metric="output_tok_s", batch=8)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read(store: str | Path, **filters: object) -> pd.DataFrame:
    """Stored rows as a DataFrame with one column for each field of ``Row``, typed as the row is.

    ``filters`` are ``column=value`` or ``parameter=value`` pairs, all of which must hold. Types
    are Arrow-backed, so a missing integer stays an integer column. DamagedError or UsageError when
    a file cannot be read: unlike the command line, nothing is left out silently.
    """
    import pandas as pd

    from tpubench.results.object_storage import located
    from tpubench.results.select import select

    wanted = [f"{column}={value}" for column, value in filters.items()]
    scan = select(located(str(store)), wanted)
    for unreadable in scan.unreadable:
        raise unreadable.error
    frame: pd.DataFrame = scan.table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
