"""The key that a server asks for: it reaches the server, and nothing that is written or shown."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mock_server
import pytest
from command_line import Call

from tpubench.errors import UsageError
from tpubench.suite.serving import generator, key, server

SECRET, VARIABLE = "sk-7Qm2vX-not-to-be-seen", "MY_SERVER_KEY"
LOAD = ("run", "--workload", "llama-serve", "--preset", "tiny", "--set", "concurrency=2")


@pytest.fixture
def call(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, SECRET)
    return call


@contextlib.contextmanager
def command_lines() -> Iterator[set[bytes]]:
    """Those of every process on the machine, over and over until the context ends."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("aiperf")
def test_it_reaches_the_server_and_nothing_that_is_written(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = tmp_path / "work"  # what AIPerf wrote, which else is deleted

    @contextlib.contextmanager
    def kept(prefix: str) -> Iterator[str]:
        work.mkdir()
        yield str(work)

    monkeypatch.setattr(generator.tempfile, "TemporaryDirectory", kept)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    with (
        mock_server.running(
            ttft_s=1.0, itl_s=0.005, key=SECRET, endpoints=("chat", "models")
        ) as mock,
        command_lines() as seen,
    ):
        done = call(
            *(*LOAD, "--server", mock.url, "--set", "requests=6", "--set", "warm_up=0"),
            *("--repeats", "1", "--api-key-env", VARIABLE, "--json"),
        )
    assert done.code == 0, done
    assert [stamp.prompt_tokens for stamp in mock.stamps] == [64] * 6, "as chats, all it takes"
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.suffix == ".parquet" for path in written)
    assert any(path.name == "profile_export_aiperf.json" for path in written)
    assert [path for path, data in written.items() if SECRET.encode() in data] == []
    assert SECRET not in done.out + done.err
    assert any(b"--endpoint-type" in line for line in seen), "AIPerf was seen running"
    telling = [line for line in seen if SECRET.encode() in line]
    assert [line for line in telling if b"mock_server.py" not in line] == []


@pytest.mark.usefixtures("aiperf")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "asks for a key (HTTP 401: Incorrect API key provided: []): export it, and name the"),
        (("--api-key-env", VARIABLE), f"does not take the key in ${VARIABLE} (HTTP 401: Incorrect"),
    ],
)
def test_a_server_that_keeps_one_out_is_one_line(
    options: tuple[str, ...], words: str, call: Call
) -> None:
    with mock_server.running(key="another") as mock:
        said = call(*LOAD, "--server", mock.url, *options).error(5)
    assert said.startswith(f"{mock.url} {words}")
    assert SECRET not in said
    assert "--api-key-env NAME" in said or f"Bearer {key.HIDDEN}" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the one named is not set"),
        ("", "the one named is not set"),
        (" \n", "the one named is not set"),
        ("two words", "is no key: one word of plain ASCII"),
        ("kéy", "is no key"),
        ("a\r\nX-Evil: 1", "is no key"),
        ("k" * 20_000, "is no key"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_OF_MINE", raising=False)
    if value is not None:
        monkeypatch.setenv("KEY_OF_MINE", value)
    with pytest.raises(UsageError, match=words) as refused:
        key.read("KEY_OF_MINE")
    assert not (value and value.strip() and value in str(refused.value))


def test_a_key_given_in_place_of_its_variable_is_not_repeated(call: Call) -> None:
    said = call(*LOAD, "--server", "http://h", "--api-key-env", SECRET).error(2)
    assert SECRET not in said and "names a variable" in said


def test_a_key_of_a_file_ends_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{SECRET}\n")
    read = key.read(VARIABLE)
    assert read is not None and read.headers == {"Authorization": f"Bearer {SECRET}"}
    assert SECRET not in repr(read)


def test_it_goes_with_a_server_and_is_said_on_the_command_line(call: Call, tmp_path: Path) -> None:
    said = call(*LOAD, "--engine", "vllm", "--model", "m", "--api-key-env", VARIABLE).error(2)
    assert said.startswith("--api-key-env goes with --server URL")
    file = tmp_path / "theirs.toml"
    file.write_text(
        'workload = "llama-serve"\nserver = "http://theirs"\napi_key_env = "OPENAI_API_KEY"\n',
        encoding="utf-8",
    )
    said = call("run", str(file)).error(2)
    assert said.startswith(f"{file}: which secret is sent is said on the command line alone")


def test_a_plan_names_the_variable_alone(call: Call) -> None:
    plan = call(*LOAD, "--server", "http://h", "--api-key-env", VARIABLE, "--dry-run", "--json")
    assert json.loads(plan.out)["api_key_env"] == VARIABLE
    assert SECRET not in plan.out


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}"
        finally:
            listener.shutdown()
            thread.join()


def test_a_server_that_sends_one_elsewhere_does_not_send_the_key_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    carried: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            carried.append(self.headers["Authorization"])
            body = json.dumps({"data": [{"id": "m"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Elsewhere) as other:

        class Sending(Elsewhere):
            def do_GET(self) -> None:
                carried.append(self.headers["Authorization"])
                self.send_response(302)
                self.send_header("Location", f"{other}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with listening(Sending) as url:
            assert server.find(url, None, key.read(VARIABLE)).model == "m"
    assert carried == [f"Bearer {SECRET}", None] * 2, "its models, and its version"
