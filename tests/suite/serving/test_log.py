"""The generator's log is read as it is, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded import text

from tpubench.errors import RunFailedError
from tpubench.suite.serving import log


def written(folder: Path, *lines: bytes) -> Path:
    path = folder / "log.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.fixture
def lines() -> list[bytes]:
    return text("poisson", "log.jsonl").splitlines()


def test_every_request_is_there_in_the_order_asked(tmp_path: Path, lines: list[bytes]) -> None:
    answers = log.read(written(tmp_path, *reversed(lines)))
    assert [answer.number for answer in answers] == list(range(104))
    for answer in answers:
        assert answer.issued_s <= answer.sent_s < (answer.first_s or 0) < (answer.last_s or 0)
        assert (answer.input_tokens, answer.output_tokens) == (64, 32)
        assert len(answer.gaps_s) == 31


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, lines: list[bytes]) -> None:
    assert len(log.read(written(tmp_path, *lines[:9], lines[9][:200]))) == 9


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"metadata": {}, "metrics": {}}',
        b'{"metadata": 3, "metrics": []}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_log_is_refused_with_its_line(
    line: bytes, tmp_path: Path, lines: list[bytes]
) -> None:
    with pytest.raises(RunFailedError, match="line 2 of the load generator's log"):
        log.read(written(tmp_path, lines[0], line, lines[1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "soon", [1], {}])
def test_a_time_that_is_none_is_refused(value: object, tmp_path: Path, lines: list[bytes]) -> None:
    record = json.loads(lines[0])
    record["metrics"]["time_to_first_token"]["value"] = value
    with pytest.raises(RunFailedError):
        log.read(written(tmp_path, json.dumps(record).encode(), lines[1]))


def test_a_request_sent_twice_is_refused(tmp_path: Path, lines: list[bytes]) -> None:
    with pytest.raises(RunFailedError, match="sent request 0 twice"):
        log.read(written(tmp_path, lines[0], lines[0]))


def test_a_missing_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="left no log"):
        log.read(tmp_path / "none.jsonl")


def test_an_error_is_named_by_its_status_and_never_by_its_text(
    tmp_path: Path, lines: list[bytes]
) -> None:
    record = json.loads(lines[0])
    record["error"] = {"type": "HTTPError", "code": 503, "message": "a secret"}
    (answer,) = log.read(written(tmp_path, json.dumps(record).encode(), b""))
    assert answer.error == "HTTP 503"
