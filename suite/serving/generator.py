"""The load generator: AIPerf, in an interpreter of its own (docs/adr/0019-load-generator.md).

It is given every request in full, as a file: the body, word for word, and in open loop the time at
which it is to be sent. So the schedule is known here before anything is sent, and what the
generator did is held against it. Its environment pins versions that torch and TorchTPU do not go
with, so it is never installed beside them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import RunFailedError
from tpubench.suite import config, processes
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.serving import log
from tpubench.suite.serving.cores import held_to
from tpubench.suite.serving.load import Ask, Load
from tpubench.suite.serving.server import Server

PACKAGE, TESTED = "aiperf", "0.13"
VARIABLE = "TPUBENCH_AIPERF_PYTHON"
FOLDER, MAKE = ".venv-serve", "make serve-env"
_START_S, _LEAVE_S = 180.0, 10.0
"""What it may take to start and to write its summaries; and to leave once told to."""
_LOOK_S = 2.0
"""How often to look whether the server is still there: one connection, and no request."""
_CORES_A_WORKER = 4
_MOST_WORKERS = 8
_HOLD_BACK = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables under which AIPerf 0.13 cannot read a tokenizer from a folder."""
_KEY = "TPUBENCH_SERVER_KEY"
_WITH_KEY = f"""
import os, sys
sys.argv[:] = ["aiperf", *sys.argv[1:], "--api-key=" + os.environ.pop("{_KEY}")]
from aiperf.cli import app
app()
"""
"""AIPerf 0.13 takes a key as an argument, which everybody on the machine could read of its command
line: so its arguments are put together inside it. It writes none of it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """Where AIPerf is, and which version."""

    python: str
    version: str

    @property
    def tested(self) -> bool:
        """Whether it is a version whose log is known."""
        return self.version.startswith(f"{TESTED}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one load led to: the log of every request, and how the generator ended."""

    answers: list[log.Answer]
    ended: str | None
    """Why it did not end by itself, or said that it failed; None when it did its work."""
    says: Mapping[str, float]
    """Its own figures, kept to be held against ours; nothing is taken from them."""


def find(python: str | None = None) -> Generator:
    """AIPerf in ``python``, else where ``$TPUBENCH_AIPERF_PYTHON`` says, else where
    ``make serve-env`` puts it. RunFailedError with the command that installs it.
    """
    named = python or os.environ.get(VARIABLE)
    if named is not None:
        path = config.executable(Path(named), "--python" if python else VARIABLE)
    else:
        own = checkout() / FOLDER / "bin" / "python"
        if not own.is_file():
            raise RunFailedError(
                f"the load generator AIPerf is not installed: {_install()}, or name its Python:"
                f" export {VARIABLE}=PATH"
            )
        path = str(own)
    version = Interpreter(path=path).versions([PACKAGE])[PACKAGE]
    if version is None:
        raise RunFailedError(f"{path} has no AIPerf: {path} -m pip install '{PACKAGE}=={TESTED}.*'")
    return Generator(python=path, version=version)


def checkout() -> Path:
    """The folder that this package was installed from, where its environments are made."""
    return Path(__file__).resolve().parents[2]


def _install() -> str:
    if (checkout() / "Makefile").is_file():
        return f"{MAKE} in {checkout()}"
    return f"python3 -m venv {FOLDER} && {FOLDER}/bin/python -m pip install '{PACKAGE}=={TESTED}.*'"


def run(
    generator: Generator,
    *,
    server: Server,
    load: Load,
    schedule: Sequence[Ask],
    timeout_s: float,
    cores: frozenset[int] | None = None,
    keep: Path | None = None,
) -> Ran:
    """Send the whole schedule and read back the log of every request.

    timeout_s: for one request, and for what the load takes beside its schedule. cores: those to run
    on; any when None. keep: a folder that gets a copy of what AIPerf wrote. RunFailedError where
    there is no log at all.
    """
    with tempfile.TemporaryDirectory(prefix="tpubench-serve-") as temporary:
        folder = Path(temporary)
        _write_requests(folder / "requests.jsonl", server, load, schedule)
        _write_tokenizer(folder / "tokenizer")
        arguments = _arguments(folder, server, load, len(schedule), timeout_s)
        command = processes.command(generator.python, PACKAGE, *arguments)
        if server.key is not None:
            command = [generator.python, "-P", "-c", _WITH_KEY, *arguments]
        span_s = schedule[-1].at_s or 0.0
        with held_to(cores):
            ended = _wait(command, folder, _START_S + span_s + timeout_s, server)
        if keep is not None:
            shutil.copytree(folder / "out", keep, dirs_exist_ok=True)
        try:
            answers = log.read(folder / "out" / "profile_export.jsonl")
        except RunFailedError as error:
            raise RunFailedError(f"{ended or error}") from None
        return Ran(answers=answers, ended=ended, says=_says(folder / "out"))


def _arguments(folder: Path, server: Server, load: Load, count: int, timeout_s: float) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    workers = max(1, min(_MOST_WORKERS, cores // _CORES_A_WORKER))
    how = ["--fixed-schedule"]
    if load.concurrency is not None:
        how = ["--concurrency", str(load.concurrency), "--request-count", str(count)]
    return [
        *("profile", "--model", server.model, "--url", server.url),
        *("--endpoint-type", server.endpoint.name, "--streaming"),
        *("--input-file", str(folder / "requests.jsonl")),
        *("--custom-dataset-type", "mooncake_trace", "--dataset-sampling-strategy", "sequential"),
        *("--tokenizer", str(folder / "tokenizer"), "--use-server-token-count"),
        *("--artifact-dir", str(folder / "out"), "--export-level", "records"),
        *("--workers-max", str(workers), "--record-processors", "1"),
        *("--request-timeout-seconds", f"{timeout_s:g}"),
        *("--ui", "none", "--no-gpu-telemetry", "--no-server-metrics", "--random-seed", "0"),
        *how,
    ]


def _write_requests(path: Path, server: Server, load: Load, schedule: Sequence[Ask]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, ask in enumerate(schedule):
            line: dict[str, object] = {
                "session_id": log.name_of(number),
                "payload": server.endpoint.body(server.model, ask),
            }
            if load.open_loop:
                line["timestamp"] = 1000 * (ask.at_s or 0.0)
            file.write(json.dumps(line) + "\n")


def _write_tokenizer(folder: Path) -> None:
    """A tokenizer of one word: AIPerf wants one, and every count is the server's."""
    folder.mkdir()
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": model}
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    for name, value in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def _wait(command: Sequence[str], folder: Path, timeout_s: float, server: Server) -> str | None:
    """Run it to its end; why it did not end well. It is gone, whatever happens here.

    It is stopped once the server is gone: AIPerf 0.13 would wait for minutes.
    """
    deadline = time.monotonic() + timeout_s
    mark = processes.new_mark()
    home = {"HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    variables = processes.environment(home)
    for name in _HOLD_BACK:
        variables.pop(name, None)
    if server.key is not None:
        variables.pop(server.key.variable, None)
        variables[_KEY] = server.key.secret
    with (folder / "log").open("wb") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env=processes.marked(variables, mark),
        )
        processes.remember(process)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(_LOOK_S)
                    break
                ended = None
                if time.monotonic() > deadline:
                    ended = f"the load did not end within {timeout_s:.0f} s"
                elif not listens(server.url):
                    ended = f"{server.url} stopped answering"
                if ended is not None:
                    # Told to leave first: what it knows of is then in its log.
                    os.killpg(process.pid, signal.SIGINT)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LEAVE_S)
                    return ended
        finally:
            processes.end(process, mark)
    return None if code == 0 else f"the load generator ended with exit code {code}"


def listens(url: str) -> bool:
    """Whether something takes connections there; a full queue or a slow network is no absence."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_LOOK_S).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        pass
    return True


_SAYS = {
    "time_to_first_token": "p50",
    "request_latency": "p50",
    "inter_token_latency": "p50",
    "inter_chunk_latency": "p50",
    "output_token_throughput": "avg",
    "request_throughput": "avg",
}
"""What is kept of AIPerf's summary: times in milliseconds, rates a second."""


def _says(folder: Path) -> dict[str, float]:
    """By its own names; nothing where it wrote no summary."""
    try:
        said = json.loads((folder / "profile_export_aiperf.json").read_text(encoding="utf-8"))
        return {
            f"{name}_{which}": float(said[name][which])
            for name, which in _SAYS.items()
            if name in said
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
