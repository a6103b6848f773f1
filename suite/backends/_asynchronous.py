"""A scripted device that runs ahead of its host: real programs, a queue, and two virtual clocks.

Every operator on a tensor is submitted, not run: its outputs are allocated at once and hold poison
(NaN) until the device's clock has passed the operator and somebody has waited. The host's clock
moves with each submission and each wait, the device's with each operator; both are virtual, so what
is measured is exactly what the script says, on any machine. A compiled program is replayed: its
inputs are copied, and it returns the same tensors each time and writes into them.

It can lie (``Script.lie``, see ``_lies.py``), so that each guard of the clock is seen to work.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from tpubench.suite.backends._lies import Lying
from tpubench.suite.backends._shapes import Shapes, contents, poisoned, tensors_of
from tpubench.suite.marks import DEVICE_EVENTS, Marks

_NUMBERS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}
"""Operators whose result the host must see before it goes on."""
_WITH_WORKSPACE = {"aten::mkldnn_rnn_layer"}
"""Operators that keep for the way back what torch leaves out where there is no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What things cost, and how the device lies.

    Microseconds, of the order of what an H100 took on 2026-11-28: a barrier 40 to 50. flop_s is far
    below any chip's, so that small test programs last long beside a barrier.
    """

    host_us: float = 3.0
    """For the host to submit an operator."""
    kernel_us: float = 20.0
    """Least time of an operator on the device."""
    flop_s: float = 1e8
    launch_us: float = 5.0
    """From submission to the earliest start."""
    replay_us: float = 20.0
    """For the host to submit a captured program."""
    barrier_us: float = 45.0
    read_us: float = 15.0
    """For a value to reach the host once it is there."""
    pass_s: tuple[float, ...] = ()
    """Seconds from each mark to the next, repeated; empty to go by what the operators cost."""
    lie: str = ""
    """A name of ``_lies.LIES``."""
    lie_size: float | None = None
    """How large the lie is, in the unit that ``_lies.LIES`` says; None for what it says there."""
    lie_since: str = ""
    """The phase of a run from which the device lies; empty for all of them."""


@dataclass(slots=True)
class _Submitted:
    """An operator in the queue: when the device will have passed it, and what it does then."""

    done_us: float
    execute: Callable[[], None]


@dataclass(slots=True)
class Queue:
    """The device: what has been submitted and not yet run, and the two clocks, in microseconds."""

    script: Script
    host_us: float = 0.0
    device_us: float = 0.0
    pending: deque[_Submitted] = field(default_factory=deque)
    ready_us: dict[int, float] = field(default_factory=dict)
    """When the last operator that writes a storage is done, by the storage's address."""
    since_wait: int = 0
    replaying: bool = False
    """Whether a captured program is being submitted: then the host pays once, not each time."""
    free: bool = False
    """Whether operators cost nothing: what they would cost stands in a script."""
    lying: Lying = field(default_factory=Lying)

    def submit(
        self,
        execute: Callable[[], None],
        cost_us: float,
        written: list[Tensor],
        what: Callable[[], object] = lambda: None,
    ) -> None:
        """Queue an operator. what: the operator and the values of all that it reads."""
        if not self.replaying:
            self.host_us += self.script.host_us
        self.since_wait += 1
        if self.lying.remembers:
            self.run_all()  # so that the values are there
        cost_us = 0.0 if self.free else self.lying.cost_us(cost_us, self, what)
        start_us = max(self.device_us, self.host_us + self.script.launch_us)
        self.device_us = start_us + cost_us
        self.pending.append(_Submitted(self.device_us, execute))
        for tensor in written:
            self.ready_us[_address(tensor)] = self.device_us

    def catch_up(self) -> None:
        """Run what the device has passed by the host's time."""
        while self.pending and self.pending[0].done_us <= self.host_us:
            # As the device would: gradients, and what is written to, were recorded at submission.
            with _disable_current_modes(), torch._C._AutoDispatchBelowADInplaceOrView():
                self.pending.popleft().execute()

    def run_all(self) -> None:
        """Run everything submitted, whatever the clocks say."""
        for submitted in self.pending:
            submitted.done_us = self.host_us
        self.catch_up()
        self.ready_us.clear()

    def drain(self) -> None:
        """Wait for everything, whatever the script says: for what only the host can do."""
        self.host_us = max(self.host_us, self.device_us)
        self.since_wait = 0
        self.catch_up()

    def barrier(self) -> None:
        """Wait for everything submitted so far."""
        self.host_us = max(self.host_us, self.lying.awaited_us(self, self.device_us))
        if self.host_us >= self.device_us:
            self.since_wait = 0
            self.lying.waited()
        self.catch_up()
        self.host_us += self.script.barrier_us

    def await_value(self, tensor: Tensor) -> None:
        """Wait until a tensor's own value is there, whatever was submitted after it."""
        ready_us = self.ready_us.get(_address(tensor), 0.0)
        self.host_us = max(self.host_us, self.lying.read_at_us(self, ready_us))
        self.catch_up()
        self.host_us += self.script.read_us

    def clock_ns(self) -> int:
        """The host's clock, which reading it moves on."""
        self.host_us += 0.05
        return round(self.lying.clock_us(self.host_us) * 1000)


class EventMarks(Marks):
    """Times that the device notes as it passes a mark."""

    how: ClassVar[str] = DEVICE_EVENTS

    def __init__(self, queue: Queue, script_s: Iterator[float] | None) -> None:
        self._queue, self._script_s = queue, script_s
        self._at_us: list[float] = []

    def start(self) -> None:
        self._at_us = [self._note_us()]

    def mark(self, output: Tensor | None = None) -> None:
        queue = self._queue
        self.taken += 1
        self.last = output
        if self._script_s is not None:
            queue.run_all()  # the script stands for what they would have cost
            queue.device_us = self._at_us[-1] + next(self._script_s) * 1e6
        self._at_us.append(self._note_us())

    def _note_us(self) -> float:
        queue = self._queue
        at_us = max(queue.device_us, queue.host_us)
        return queue.lying.noted_us(at_us, queue.host_us, self.taken)

    def gaps_s(self) -> list[float]:
        at_us = self._queue.lying.told_us(self._at_us)
        return [(b - a) / 1e6 for a, b in itertools.pairwise(at_us)]

    def pending(self) -> bool:
        queue = self._queue
        return not queue.lying.passed and self._at_us[-1] > queue.host_us


class Deferred(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Submits each operator to a queue instead of running it."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = queue
        self._inside = False
        self._shapes = Shapes()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to be skipped, Dynamo is imported: a second

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        self._inside = True
        try:
            return self._submit(func, args, kwargs)
        finally:
            self._inside = False

    def _submit(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        queue, schema = self._queue, func._schema
        tensors = tensors_of((args, kwargs))
        to_meta = torch.device(kwargs.get("device") or "cpu").type == "meta"
        if not tensors or to_meta or any(tensor.is_meta for tensor in tensors):
            if tensors and schema.is_mutable and torch.Tag.nondeterministic_seeded in func.tags:
                return tensors[0]  # nothing to draw numbers for, as in the building of a module
            return func(*args, **kwargs)  # memory of the host, or no memory at all
        if schema.name in _NUMBERS:
            queue.await_value(tensors[0])
            return func(*args, **kwargs)
        if torch.Tag.nondeterministic_seeded in func.tags and _draws(func, args, kwargs):
            queue.drain()  # random numbers come in the order of the program
            return func(*args, **kwargs)
        if schema.name in _WITH_WORKSPACE:
            queue.drain()
            return func(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags:
            queue.drain()  # another shape or memory for the same tensor: the host's own business
            return func(*args, **kwargs)
        cost_us = self._cost_us(func, args, kwargs)
        if schema.is_mutable:
            return self._in_place(func, args, kwargs, cost_us)
        if any(returned.alias_info is not None for returned in schema.returns):
            return func(*args, **kwargs)  # a view: no data moves
        return self._out_of_place(func, args, kwargs, cost_us)

    def _cost_us(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        script, formula = self._queue.script, flop_registry.get(func.overloadpacket)
        if formula is None:
            return script.kernel_us
        flops = float(formula(*args, **kwargs, out_val=self._shapes.of(func, args, kwargs)))
        return max(script.kernel_us, flops / script.flop_s * 1e6)

    def _in_place(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cost_us: float
    ) -> Any:
        """An operator that writes into its arguments, and returns them or nothing."""
        named = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        written = {
            argument.name: named[argument.name]
            for argument in func._schema.arguments
            if argument.alias_info is not None
            and argument.alias_info.is_write
            and argument.name in named
        }
        returned = []
        for value in func._schema.returns:
            if value.alias_info is None or not value.alias_info.is_write:
                self._queue.drain()  # a result beside what it writes: too rare to be worth more
                return func(*args, **kwargs)
            returned.append(
                next(
                    named[argument.name]
                    for argument in func._schema.arguments
                    if argument.alias_info is not None
                    and argument.alias_info.before_set == value.alias_info.before_set
                )
            )
        tensors = tensors_of(list(written.values()))
        what = partial(contents, func, args, kwargs)
        self._queue.submit(lambda: void(func(*args, **kwargs)), cost_us, tensors, what)
        if not returned:
            return None
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _out_of_place(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cost_us: float
    ) -> Any:
        """An operator with results of its own: allocated now, poisoned until it has run."""
        try:
            shapes = self._shapes.of(func, args, kwargs)
        except (NotImplementedError, RuntimeError):
            self._queue.drain()  # its shape depends on values, or it has none without them
            return func(*args, **kwargs)
        results = tree_map_only(Tensor, poisoned, shapes)
        outputs = tensors_of(results)

        def execute() -> None:
            for output, value in zip(outputs, tensors_of(func(*args, **kwargs)), strict=True):
                # A batch norm or a bag of rows leaves out on the host what only gradients need.
                if output.shape == value.shape:
                    output.copy_(value)

        self._queue.submit(execute, cost_us, outputs, partial(contents, func, args, kwargs))
        return results


class HostReads(TorchFunctionMode):
    """Makes the host wait where it reads a tensor in a way that no operator shows."""

    READS: ClassVar = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__reduce_ex__)

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self._queue = queue

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.READS:
            self._queue.await_value(args[0])
            return func(*args, **kwargs)
        if func is Tensor.cpu or (func is Tensor.to and _to_the_cpu(args[1:], kwargs)):
            self._queue.await_value(args[0])
            with _disable_current_modes():
                result = func(*args, **kwargs)
                # Device memory is not the host's.
                result = result.clone() if _address(result) == _address(args[0]) else result
                return self._queue.lying.read(result)
        return func(*args, **kwargs)


@contextlib.contextmanager
def deferred(queue: Queue) -> Iterator[None]:
    """Everything inside runs on the scripted device; at the end the host waits for it."""
    with HostReads(queue), Deferred(queue):
        yield
        queue.drain()


def void(_value: object) -> None:
    """Drops a value."""


def _draws(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operator that may draw random numbers does; attention without dropout does not."""
    names = [argument.name for argument in func._schema.arguments]
    if "dropout_p" not in names:
        return True
    return bool((dict(zip(names, args, strict=False)) | kwargs).get("dropout_p", 0.0))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _to_the_cpu(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    targets = [*args, kwargs.get("device")]
    return any(
        (isinstance(target, str) and target.startswith("cpu"))
        or (isinstance(target, torch.device) and target.type == "cpu")
        for target in targets
    )
