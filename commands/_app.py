"""The command class behind every command: no option is taken twice in silence, no value is empty.

Click keeps the last of several values; a script that says ``--device v6e --device h100-sxm`` would
get an answer about one of them. And an empty value, which is what an unset shell variable leaves,
would be read as a path to the working directory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand

from tpubench.errors import RunFailedError, UsageError, interruption


class StrictCommand(TyperCommand):
    """A command that refuses repeated single-valued options, and empty values of all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class does it. UsageError for a repeated option or an empty value."""
        if not ctx.resilient_parsing:
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
            for parameter in self.params:
                _refuse_empty(parameter, values.get(parameter.name or ""))
            _refuse_repeated(given)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As the base class does it. RunFailedError for Ctrl-C, of which Typer says nothing."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise RunFailedError(interruption(error)) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As the base class does it, with brackets in the text of options shown as brackets."""
        parameters: list[Any] = self.params
        for parameter in parameters:
            text = getattr(parameter, "help", None)
            if text and "\\[" not in text:
                parameter.help = text.replace("[", "\\[")
        super().format_help(ctx, formatter)


class App(typer.Typer):
    """A Typer whose commands are :class:`StrictCommand`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """As Typer's, with the stricter class."""
        return super().command(name, cls=StrictCommand, **settings)


def _refuse_repeated(given: Iterable[Any]) -> None:
    for parameter, count in Counter(given).items():
        options = parameter.param_type_name == "option" and not parameter.multiple
        # The same flag twice says the same thing; of --x --no-x one would be dropped.
        if count > 1 and options and (not parameter.is_flag or parameter.secondary_opts):
            raise UsageError(
                f"{_name(parameter)} is given {'twice' if count == 2 else f'{count} times'}, and"
                " takes one value: drop all but one"
            )


def _refuse_empty(parameter: Any, value: Any) -> None:
    values = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(each, str) and not each.strip() for each in values):
        raise UsageError(f"{_name(parameter)} is empty: give it a value, or leave it out")


def _name(parameter: Any) -> str:
    """What the user types: the long spelling of an option, the placeholder of an argument."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name).strip("[].")
