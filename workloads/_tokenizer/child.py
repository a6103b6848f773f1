"""A checkpoint's tokenizer, asked in a process of its own, with limits on time and memory.

A chat template is a program of the checkpoint's author, and a tokenizer's rules can make one letter
into a billion: no check of the file tells which will end. jinja2's sandbox keeps a template from
reaching out, not from running for ever; and the tokenizers package may end its process. So a
prompt is encoded, and an answer decoded, where none of that matters.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpubench.suite.workload import UsageError, processes
from tpubench.workloads._checkpoint.header import refused

CPU_S = 5
"""Several times what the largest tokenizer of a supported model takes."""
WALL_S = 120
"""A busy machine may give a process no more than a twentieth of a core."""
MEMORY_BYTES = 768 << 20


def encode_chat(path: Path, text: str) -> list[int]:
    """As :meth:`Tokenizer.encode_chat` of the checkpoint at ``path``.

    UsageError as :func:`read_tokenizer`, and where it crashes or takes too much time or memory.
    """
    ids: list[int] = _ask(path, {"encode": text})["ids"]
    return ids


def decode(path: Path, ids: Sequence[int]) -> str:
    """As :meth:`Tokenizer.decode`; UsageError as there."""
    text: str = _ask(path, {"decode": list(ids)})["text"]
    return text


def _ask(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    limits = {"cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES}
    asked = json.dumps({"path": os.fsdecode(path), **limits, **question})
    threads = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            processes.command(None, __name__),
            input=asked.encode(),
            capture_output=True,
            env=processes.environment(threads),
            timeout=WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise refused(path, f"its tokenizer takes more than {WALL_S} s") from None
    if done.returncode:
        raise refused(
            path,
            f"its tokenizer or chat template crashes, or takes more than {CPU_S} s or"
            f" {MEMORY_BYTES >> 20} MiB",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def main() -> None:
    """Answer the question on standard input, on standard output."""
    question = json.load(sys.stdin)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, question["cpu_s"]),
        (resource.RLIMIT_DATA, question["memory_bytes"]),
    ):
        resource.setrlimit(limit, (most, most))
    from tpubench.workloads._tokenizer import read_tokenizer

    try:
        tokenizer = read_tokenizer(Path(question["path"]))
        if "encode" in question:
            answer: dict[str, Any] = {"ids": tokenizer.encode_chat(question["encode"])}
        else:
            answer = {"text": tokenizer.decode(question["decode"])}
    except UsageError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
