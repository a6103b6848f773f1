"""What changed between two price tables: new, gone, dearer and cheaper offers.

Two entries are the same offer when provider, region, accelerator, term and layer agree; where one
table holds several dates or sizes of an offer, its newest and cheapest stands for it. A table that
lists nothing at all of a provider's accelerator and term is partial there: its silence does not say
that an offer is new or gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tpubench.devices.prices import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChange:
    """One offer in both tables; None on the side where it is absent."""

    provider: str
    region: str
    accelerator: str
    term: str
    layer: str
    before: Price | None
    after: Price | None
    listed: bool = True
    """Whether the table without the offer lists others of its provider, accelerator and term."""

    @property
    def kind(self) -> str:
        """``changed``, ``new``, ``gone``, or ``not listed`` where a table omits the whole kind."""
        if self.before is not None and self.after is not None:
            return "changed"
        if not self.listed:
            return "not listed"
        return "new" if self.before is None else "gone"

    @property
    def ratio(self) -> float | None:
        """New rate ÷ old rate; None when one of them is absent."""
        if self.before is None or self.after is None:
            return None
        return self.after.usd_per_chip_hour / self.before.usd_per_chip_hour


def diff(before: Iterable[Price], after: Iterable[Price]) -> list[OfferChange]:
    """Offers whose rate differs or that only one side has, in the order of their names."""
    old, new = _newest(before), _newest(after)
    old_kinds, new_kinds = ({_kind(key) for key in table} for table in (old, new))
    changes = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if a is None or b is None or a.usd_per_chip_hour != b.usd_per_chip_hour:
            provider, region, accelerator, term, layer = key
            changes.append(
                OfferChange(
                    provider=provider,
                    region=region,
                    accelerator=accelerator,
                    term=term,
                    layer=layer,
                    before=a,
                    after=b,
                    listed=_kind(key) in (old_kinds if a is None else new_kinds),
                )
            )
    return changes


def partial(changes: Iterable[OfferChange], *, after: bool) -> list[str]:
    """What the one table lists nothing of, and the other does: ``aws tpu-v6e on_demand (3)``."""
    missing = Counter(
        f"{change.provider} {change.accelerator} {change.term}"
        for change in changes
        if not change.listed and (change.after if after else change.before) is None
    )
    return [f"{kind} ({count})" for kind, count in sorted(missing.items())]


def _kind(key: tuple[str, str, str, str, str]) -> tuple[str, str, str, str]:
    provider, _, accelerator, term, layer = key
    return provider, accelerator, term, layer


def _newest(entries: Iterable[Price]) -> dict[tuple[str, str, str, str, str], Price]:
    newest: dict[tuple[str, str, str, str, str], Price] = {}
    for entry in entries:
        key = (entry.provider, entry.region, entry.accelerator, entry.term, entry.layer)
        held = newest.get(key)
        rank = (entry.as_of, -entry.usd_per_chip_hour)
        if held is None or rank > (held.as_of, -held.usd_per_chip_hour):
            newest[key] = entry
    return newest
