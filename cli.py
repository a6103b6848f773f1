"""The command line: parse, call, print. The commands are in tpubench.commands; what is
heavy is imported by the command that needs it.

Exit codes: 0 done · 1 the answer is no (regressed, damaged) · 2 bad usage or input ·
3 inconclusive · 4 environments not comparable · 5 the run failed or the backend is missing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer

from tpubench.commands import (
    about,
    allocate,
    compile_,
    cost,
    estimate,
    facts,
    gate,
    import_,
    plan,
    price,
    run,
    runs,
    sweep,
)
from tpubench.errors import (
    EndedBySignalError,
    RunFailedError,
    TpubenchError,
    UsageError,
    interruption,
)
from tpubench.results import lasting_stream
from tpubench.results.plain_text import one_line, warn


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"tpubench {version('tpubench')}")
        raise typer.Exit


app = typer.Typer(
    name="tpubench",
    help="The same PyTorch programs on TPUs and Nvidia GPUs: measured, priced and compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    asked: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version."),
    ] = False,
) -> None:
    """Options of tpubench itself."""


# In the order that --help shows.
for group in (
    run, sweep, estimate, compile_, facts, runs, gate, import_, about, price, cost, plan, allocate,
):  # fmt: skip
    app.add_typer(group.app)


def _arguments(given: list[str]) -> list[str]:
    """What was typed; ``estimate --method compile``, as it was once spelt, is ``compile``."""
    if given[:1] == ["estimate"] and "--method" in given[:-1]:
        at = given.index("--method")
        if given[at + 1] in {"compile", "roofline"}:
            command = "compile" if given[at + 1] == "compile" else "estimate"
            return [command, *given[1:at], *given[at + 2 :]]
    return given


@cache
def program() -> Callable[..., int | None]:
    """All commands, put together once: a tenth of a second."""
    return typer.main.get_command(app)


def main() -> None:
    """Entry point: one error line on stderr, the right exit code, no traceback."""
    debug = os.environ.get("TPUBENCH_DEBUG") == "1"
    _end_as_ctrl_c_does()
    lasting_stream.install()
    try:
        code = program()(_arguments(sys.argv[1:]), standalone_mode=False)
        sys.stdout.flush()
        if code == _TYPER_INTERRUPTED:
            raise KeyboardInterrupt
    except TpubenchError as error:
        if debug:
            raise
        for text in error.left_out:
            warn(f"left out: {text}")
        _fail(str(error), error.exit_code)
    except _CLICK_ERROR as error:
        _fail(error.format_message(), UsageError.exit_code)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort) as error:
        by = error if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt()
        _fail(interruption(by), RunFailedError.exit_code)
    except OSError as error:
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        nameless = (
            "the working directory" if isinstance(error, FileNotFoundError) else "cannot write"
        )
        what = f"{error.filename or nameless}"
        _fail(f"{what}: {error.strerror or error}", UsageError.exit_code)
    except Exception as error:
        from tpubench.suite.references import blamed

        if isinstance(error, ModuleNotFoundError) and error.name in _NEEDED and not debug:
            _fail(f"{error.name} is not installed: pip install {error.name}", 2)
        fault = blamed(error)
        if debug or fault is None:
            raise
        _fail(f"{fault} (TPUBENCH_DEBUG=1 shows the whole way there)", RunFailedError.exit_code)
    sys.exit(code)


def _end_as_ctrl_c_does() -> None:
    """Have SIGTERM and SIGHUP raise what Ctrl-C does, unless the caller ignores them (nohup)."""

    def end(number: int, _: object) -> None:
        raise EndedBySignalError(f"ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _fail(message: str, code: int) -> None:
    if message:  # none where the help was the answer
        print(f"tpubench: error: {one_line(message)}", file=sys.stderr)
    sys.exit(code)


_NEEDED = frozenset({"duckdb", "highspy", "plotly", "pydantic", "scipy"})
"""Libraries that only some commands need: a machine that measures may be without them."""
_TYPER_INTERRUPTED = 130
"""What Typer makes of Ctrl-C before a command has begun."""
_CLICK_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Base of what typer raises for bad usage; typer does not export it."""


if __name__ == "__main__":
    main()
