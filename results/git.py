"""What git says of a checkout, without running anything that the checkout brings along.

A repository's own configuration may name programs: a file system monitor, hooks, content filters,
a pager, a signature checker, a transport for objects that are not there. Asking for a commit must
start none of them, so each is turned off by a setting that wins over every file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_TIMEOUT_S = 60.0
_OFF = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.sparseCheckout": "false",  # a revision is unpacked whole
    "log.showSignature": "false",  # runs gpg.program
    "safe.bareRepository": "explicit",  # one lying in a working tree is not the one asked
}
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",  # reading writes nothing
    "GIT_TERMINAL_PROMPT": "0",
    # Objects of a partial clone are fetched by a program that its configuration names.
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
}
_OWN_SCOPES = {"local", "worktree"}
_FILTER_OFF = {"clean": "", "smudge": "", "process": "", "required": "false"}


def ask(
    *arguments: str,
    directory: Path | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> str | None:
    """What ``git arguments`` prints, stripped; None when it fails, or there is no git.

    ``directory``: where to ask; the working directory when None. ``variables``: more environment.
    """
    settings = {**_OFF, **_filters_off(directory, timeout_s)}
    return _run(settings, arguments, directory, variables or {}, timeout_s)


def complaint(directory: Path | None = None) -> str | None:
    """Why git answers nothing about a checkout, in its own first line; None where it does.

    A folder that belongs to another user, say, or that is in no repository.
    """
    done = _call(_OFF, ("rev-parse", "--git-dir"), directory, {}, _TIMEOUT_S)
    if done is None:
        return "git cannot be started"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if done.returncode and lines else None


def _filters_off(directory: Path | None, timeout_s: float) -> dict[str, str]:
    """Settings that turn off the content filters defined in the repository; the user's stay."""
    query = ("config", "--show-scope", "--null", "--name-only", "--get-regexp", r"^filter\.")
    words = (_run(_OFF, query, directory, {}, timeout_s) or "").split("\0")
    names = {
        key.partition(".")[2].rpartition(".")[0]
        for scope, key in zip(words[::2], words[1::2], strict=False)
        if scope in _OWN_SCOPES
    }
    return {f"filter.{n}.{key}": value for n in names for key, value in _FILTER_OFF.items()}


def _run(
    settings: Mapping[str, str],
    arguments: Sequence[str],
    directory: Path | None,
    variables: Mapping[str, str],
    timeout_s: float,
) -> str | None:
    done = _call(settings, arguments, directory, variables, timeout_s)
    if done is None or done.returncode:
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _call(
    settings: Mapping[str, str],
    arguments: Sequence[str],
    directory: Path | None,
    variables: Mapping[str, str],
    timeout_s: float,
) -> subprocess.CompletedProcess[bytes] | None:
    """What ended; None when git could not be started, or did not end in time."""
    environment = {**os.environ, **_ENVIRONMENT, **variables}
    # By variables, not by -c: a name may hold an equals sign.
    first = int(environment.get("GIT_CONFIG_COUNT") or 0)
    for number, (key, value) in enumerate(settings.items(), start=first):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    environment["GIT_CONFIG_COUNT"] = str(first + len(settings))
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
