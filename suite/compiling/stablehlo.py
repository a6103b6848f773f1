"""Annotates an exported program: how each argument is cut, and what is updated in place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tpubench.errors import RunFailedError

_MAIN = re.compile(r"func\.func (?:public )?@main\((.*?)\) -> (\(?)(.*?)(\)?) \{\n")
_TENSOR = re.compile(r"tensor<([^>]*)>")
_CHUNK = 2**30
"""Bytes of one array that stands for what else is in memory: an index must fit 32 bits."""


def annotated(
    text: str,
    args: Sequence[Mapping[str, Any]],
    *,
    resident: int,
    devices: int,
    result_cut: int | None = None,
) -> str:
    """The program with the sharding of each argument and result, and donated arguments named.

    args: of ``main``, in order: ``cut`` (dimension, or None for a copy on every device) and
    ``becomes`` (number of the output that replaces it, or None). result_cut: of the outputs that
    replace nothing. ``resident`` bytes a device are
    added as arguments that nothing reads: layers that are not in the program still fill memory.
    RunFailedError for a text that is not as TorchTPU exports programs.
    """
    main = _MAIN.search(text)
    if main is None:
        raise RunFailedError("the exported program has no main: TorchTPU has changed")
    types = _TENSOR.findall(main[1])
    results = _TENSOR.findall(main[3])
    if len(types) != len(args):
        raise RunFailedError(
            f"the exported program has {len(types)} arguments, {len(args)} were expected:"
            " TorchTPU has changed"
        )
    taken = []
    for index, (kind, arg) in enumerate(zip(types, args, strict=True)):
        attributes = _sharding(kind, arg["cut"], devices)
        if arg["becomes"] is not None:
            attributes.append(f"tf.aliasing_output = {arg['becomes']} : i32")
        taken.append(f"%arg{index}: tensor<{kind}>{_attributes(attributes)}")
    for index, size in enumerate(_chunks(resident)):
        kind = f"{size * devices}xi8"
        cut = _attributes(_sharding(kind, 0, devices))
        taken.append(f"%resident{index}: tensor<{kind}>{cut}")
    cuts = {arg["becomes"]: arg["cut"] for arg in args if arg["becomes"] is not None}
    given = [
        f"tensor<{kind}>{_attributes(_sharding(kind, cuts.get(index, result_cut), devices))}"
        for index, kind in enumerate(results)
    ]
    head = f"func.func public @main({', '.join(taken)}) -> ({', '.join(given)}) {{\n"
    return text[: main.start()] + head + text[main.end() :]


def _chunks(size: int) -> list[int]:
    whole, rest = divmod(size, _CHUNK)
    return [_CHUNK] * whole + ([rest] if rest else [])


def _sharding(kind: str, cut: int | None, devices: int) -> list[str]:
    if devices == 1:
        return []
    if cut is None:
        return ['mhlo.sharding = "{replicated}"']
    rank = kind.count("x")
    shape = ",".join(str(devices if i == cut else 1) for i in range(rank))
    return [f'mhlo.sharding = "{{devices=[{shape}]<=[{devices}]}}"']


def _attributes(attributes: list[str]) -> str:
    return f" {{{', '.join(attributes)}}}" if attributes else ""
