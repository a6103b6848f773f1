"""The configuration file: which Python runs each backend's children.

    [backends.xla]
    python = "~/envs/torch-2.9/bin/python"

It is ``$TPUBENCH_CONFIG``, or ``tpubench/config.toml`` in the user's configuration folder. It names
programs that will be run, so it is never taken from the working directory unasked: that may be
somebody else's repository.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.suite.interpreters import OWN, Interpreter

VARIABLE = "TPUBENCH_CONFIG"
HERE = "tpubench.toml"


def find() -> Path | None:
    """The configuration file in force; UsageError when ``$TPUBENCH_CONFIG`` names none."""
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UsageError(f"{VARIABLE}: {path} is not a file")
        return path
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(home).expanduser() / "tpubench" / "config.toml"
    return path if path.is_file() else None


def passed_over() -> str | None:
    """A note on a configuration file that lies in the working directory and is not in force."""
    here = Path(HERE)
    if not here.is_file():
        return None
    path = find()
    if path is not None and path.samefile(here):
        return None
    return (
        f"{HERE} of the working directory is not read, as it names programs to run;"
        f" if it is yours: export {VARIABLE}={HERE}"
    )


def interpreter(backend: str) -> Interpreter:
    """The Python in which ``backend`` runs by the configuration; this one when it says nothing.

    UsageError, with file and key, for a file that does not make sense.
    """
    return interpreters().get(backend, OWN)


def interpreters() -> dict[str, Interpreter]:
    """The Python of every backend that the configuration names; UsageError, naming the key, for a
    file that makes no sense."""
    path = find()
    if path is None:
        return {}
    from tpubench.suite import registry
    from tpubench.suite._config_file import ConfigFile, read_toml

    by_backend = {}
    for name, entry in read_toml(path, ConfigFile).backends.items():
        if name not in registry.backends():
            known = ", ".join(registry.backends())
            raise UsageError(f"{path}: backends.{name}: no such backend; known: {known}")
        # A path is as seen from the file, so that the working directory does not matter.
        python = path.absolute().parent / Path(entry.python).expanduser()
        by_backend[name] = Interpreter(path=executable(python, f"{path}: backends.{name}.python"))
    return by_backend


def executable(python: Path, said_by: str) -> str:
    """Absolute path of an executable file; UsageError naming who asked for it otherwise."""
    path = shutil.which(python.expanduser())
    if path is None:
        raise UsageError(f"{said_by}: {python} is not an executable file")
    return str(Path(path).absolute())
