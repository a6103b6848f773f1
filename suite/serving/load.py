"""A load on a server: how many requests of which lengths, and when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tpubench.results import fingerprint
from tpubench.results.fingerprint import canonical_json

Plain = str | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, to be sent as it is.

    prompt: token ids. output_len: tokens to be generated, neither more nor fewer. at_s: when it is
    sent, seconds from the start; None where the load decides (a rate, or a concurrency).
    """

    prompt: tuple[int, ...]
    output_len: int
    at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one measurement asks of the server.

    Open loop at ``request_rate`` (requests a second, Poisson), closed loop at ``concurrency``
    (requests in flight), or, with neither, when a trace says. requests: those measured.
    warm_up: requests before them, which are sent alike and left out of every figure.
    """

    shape: str
    input_len: int
    output_len: int
    requests: int
    warm_up: int
    seed: int
    request_rate: float | None = None
    concurrency: int | None = None
    about: Mapping[str, Plain] = field(default_factory=dict, hash=False)
    """What else the shape says: the shared prefix, the trace."""

    traced: bool = False

    @property
    def undecided(self) -> bool:
        """Whether nothing says when requests are sent: the rate is to be looked for."""
        return self.request_rate is None and self.concurrency is None and not self.traced

    @property
    def open_loop(self) -> bool:
        """Whether requests are sent at their time, whatever became of those before."""
        return self.concurrency is None

    @property
    def params(self) -> dict[str, Plain]:
        """The load as parameters of a stored case."""
        how: dict[str, Plain] = {"load": "trace"}
        if self.request_rate is not None:
            how = {"load": "poisson", "request_rate": plain(self.request_rate)}
        elif self.concurrency is not None:
            how = {"load": "closed", "concurrency": self.concurrency}
        return {
            "shape": self.shape,
            "input_len": self.input_len,
            "output_len": self.output_len,
            **how,
            "requests": self.requests,
            "warm_up": self.warm_up,
            **self.about,
            "seed": self.seed,
        }

    def seed_of(self, repetition: int) -> int:
        """A seed of its own for each load and repetition: no prompt is sent twice in a run, so
        that no cache of prefixes answers what was measured before."""
        text = canonical_json([self.params, repetition])
        return int(fingerprint.sha256(text)[:15], 16)

    def label(self) -> str:
        """What a person reads."""
        if self.request_rate is not None:
            return f"{self.shape} at {self.request_rate:g} requests/s"
        if self.concurrency is not None:
            return f"{self.shape} at concurrency {self.concurrency}"
        return f"{self.shape} as recorded"


def plain(number: float) -> int | float:
    """Whole numbers as integers, so that 2.0 and 2 are one case."""
    return int(number) if number == int(number) else number
