"""What is found behind a URL: no URL, no server, something else than one, in one line each."""

from __future__ import annotations

import socket
import threading

import pytest

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite.serving import server


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "127.0.0.1:8000", "ftp://h", "http://", "http://:8000", "http://h:port",
        "http://h:99999", "http://h:0", "http://[::1", "http://h h", "http://h/\n", "http://hé",
    ],
)  # fmt: skip
def test_what_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL: write it as") as refused:
        server.find(url, None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://me@h", "http://me:mine@h", "http://h?a=b", "http://h#part"]
)
def test_a_url_carries_nothing_but_a_place(url: str) -> None:
    with pytest.raises(UsageError, match="takes a plain URL"):
        server.find(url, None)


def answered(data: bytes) -> str:
    """What is said of a server that answers every connection so, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises((RunFailedError, UsageError)) as failed:
            server.find(f"http://127.0.0.1:{listener.getsockname()[1]}", None)
        thread.join()
    said = str(failed.value)
    assert "\n" not in said and "\x1b" not in said
    return said


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer as an OpenAI-compatible server"),
        (b"", "cannot reach"),
        (b"HTTP/1.1 twohundred\r\n\r\n", "does not answer as an OpenAI-compatible server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "does not answer as an OpenAI"),
        (OK + b"<html>hello</html>", "does not answer as an OpenAI-compatible server"),
        (OK + b"[" * 100_000, "does not answer as an OpenAI-compatible server"),
        (OK + b"[]", "does not answer as an OpenAI-compatible server"),
        (OK + b"{}", "serves 0 models: give --model, one of none"),
        (OK + b'{"data": 3}', "serves 0 models"),
        (OK + b'{"data": [{"id": "a\\u001b[2J"}, {"id": "b"}]}', "serves 2 models"),
        (b"HTTP/1.1 503 X\r\nConnection: close\r\n\r\nbusy", "answered HTTP 503"),
        (b"HTTP/1.1 404 X\r\nConnection: close\r\n\r\n", "/v1/models is not there"),
        (b"HTTP/1.1 403 X\r\nConnection: close\r\n\r\n", "asks for a key (HTTP 403)"),
    ],
)
def test_what_is_no_such_server_is_said_in_a_line(data: bytes, words: str) -> None:
    assert words in answered(data)
