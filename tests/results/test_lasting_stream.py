"""A reader that goes away, or was never there, neither ends a command nor changes its answer."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tpubench.results.lasting_stream import LastingMessages, LastingStream

COMMAND = [sys.executable, "-m", "tpubench.cli"]


def opened(kind: type[LastingStream], descriptor: int) -> LastingStream:
    return kind(io.BufferedWriter(io.FileIO(descriptor, "w")), encoding="utf-8")


def without_a_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("kind", [LastingStream, LastingMessages])
def test_what_nobody_reads_goes_nowhere(kind: type[LastingStream]) -> None:
    with opened(kind, without_a_reader()) as stream:
        for _ in range(3):
            assert stream.write("x" * 10_000) == 10_000
            stream.flush()


def test_a_full_disk_loses_the_answer_and_says_so_but_messages_are_no_answer() -> None:
    with opened(LastingMessages, os.open("/dev/full", os.O_WRONLY)) as messages:
        messages.write("[1/3] ok\n")
        messages.flush()
    answer = opened(LastingStream, os.open("/dev/full", os.O_WRONLY))
    answer.write("42\n")
    with pytest.raises(OSError, match="No space left"):
        answer.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), answer.fileno())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list", "workloads"], 0),
        (["list", "devices", "--json"], 0),
        (["--help"], 0),
        (["show", "--store", "/proc/none"], 2),
    ],
)
def test_a_pipe_that_is_closed_at_once_changes_no_exit_code(
    arguments: list[str], code: int
) -> None:
    """Else ``gate … | head`` would say ok of what regressed."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        stdout=without_a_reader(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_an_answer_of_no_stays_no_without_a_reader(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gemm.parquet").write_bytes(b"PAR1 no more")
    done = subprocess.run(
        [*COMMAND, "verify", "--store", str(tmp_path)],
        stdout=without_a_reader(),
        stderr=without_a_reader(),
        check=False,
    )
    assert done.returncode == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_closed_at_the_start_are_no_fault(closed: str) -> None:
    """As some schedulers start what they run."""
    line = f"{sys.executable} -m tpubench.cli list workloads {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    line = f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m tpubench.cli show"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("TPUBENCH_STORE", None)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
