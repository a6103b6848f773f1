"""A workload that is served: what is asked of a server, and in which shapes.

Unlike a :class:`~tpubench.suite.workload.Workload` it builds no program of its own. The program
runs elsewhere, behind an OpenAI-compatible interface, and is measured by its answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tpubench.errors import UsageError as UsageError
from tpubench.results.regular_file import open_regular as open_regular
from tpubench.suite import definition
from tpubench.suite.parameter import Parameter as Parameter
from tpubench.suite.serving.load import Ask as Ask
from tpubench.suite.serving.load import Load as Load


class Service(ABC):
    """A standard load. One subclass for each folder in ``workloads/`` that is served."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever results stop being comparable with older ones."""
    summary: ClassVar[str]
    presets: ClassVar[Mapping[str, str]]
    """Shape to a one-line description; the first is the default."""
    parameters: ClassVar[Mapping[str, Parameter]]
    shorthands: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @abstractmethod
    def loads(self, preset: str, settings: Mapping[str, Sequence[str]]) -> list[Load]:
        """The loads that a shape and the ``--set`` values mean, each once.

        With neither a rate nor a concurrency: one load without either, whose rate is looked for,
        or which a trace decides. UsageError for what makes no sense.
        """

    @abstractmethod
    def asks(self, load: Load, seed: int) -> list[Ask]:
        """The requests of a load, warm-up first. The same seed gives the same requests."""

    def source_sha256(self) -> str:
        """SHA-256 of the files that define this load: part of the fingerprint."""
        return definition.digest(definition.modules([type(self)]).values())
