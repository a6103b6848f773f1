"""An OpenAI-compatible server of known timing, on the loopback interface, in a process of its own.

    with running(ttft_s=0.1, itl_s=0.02) as server:
        ...                       # server.url
    server.stamps                 # what it did itself, request by request

It streams ``max_tokens`` tokens as server-sent events, one a chunk, and notes when each request
came, and when its first and its last token left. Each token is due at a time counted from the
request's arrival, so that a late timer does not add up. Only the standard library: it must run in
any interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

MODEL = "mock-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the server does. Times in seconds; ``*_at`` count from the first request."""

    ttft_s: float = 0.1
    itl_s: float = 0.02
    stall_at_s: float | None = None
    stall_s: float = 0.0
    """Nothing is sent from ``stall_at_s`` for so long."""
    die_after: int | None = None
    """Requests after whose arrival the process ends."""
    fail_every: int | None = None
    """Each so-manieth request is answered 500."""
    short_by: int = 0
    """Tokens that each answer lacks."""
    slots: int | None = None
    """Requests served at a time; further ones wait. None: all."""
    report_usage: bool = True
    max_model_len: int = 16384
    key: str | None = None
    """What a request must carry; who carries anything else is told what he carried."""
    endpoints: tuple[str, ...] = ("completions", "chat", "models", "version")
    template: int = 23
    """Tokens of a chat that are none of its words."""
    split: tuple[str, ...] = ()
    """Words of a chat that are two tokens; every other one is one."""


@dataclass(slots=True, kw_only=True)
class Stamp:
    """What the server did with one request: monotonic seconds, and tokens."""

    arrived_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached: bool = False


@dataclass(slots=True, kw_only=True)
class Server:
    """The running server, as a test sees it."""

    url: str
    process: subprocess.Popen[str]
    stamps: list[Stamp] = field(default_factory=list)
    """Filled in when it ends."""


@contextlib.contextmanager
def running(**behaviour: object) -> Iterator[Server]:
    """Start it, and end it with the context."""
    command = [sys.executable, str(Path(__file__)), json.dumps(behaviour)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None and process.stdin is not None
    server = Server(url=f"http://127.0.0.1:{int(process.stdout.readline())}", process=process)
    try:
        yield server
        process.stdin.close()  # its sign to end
        server.stamps = [Stamp(**each) for each in json.loads(process.stdout.read() or "[]")]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class _Mock:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.stamps: list[Stamp] = []
        self.began: float | None = None
        self.count = 0
        self.slots = asyncio.Semaphore(behaviour.slots or 10**6)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (int(line[15:]) for line in head.split("\r\n")
                     if line.lower().startswith("content-length:")), 0,
                )  # fmt: skip
                body = await reader.readexactly(length)
                method, path = head.split()[:2]
                if self._keeps_out(writer, head):
                    pass
                elif method == "GET":
                    self._get(writer, path)
                else:
                    await self._complete(writer, path, json.loads(body))
                await writer.drain()
        writer.close()

    def _keeps_out(self, writer: asyncio.StreamWriter, head: str) -> bool:
        if self.behaviour.key is None:
            return False
        own = [line[14:].strip() for line in head.split("\r\n")
               if line.lower().startswith("authorization:")]  # fmt: skip
        if own == [f"Bearer {self.behaviour.key}"]:
            return False
        _answer(writer, 401, {"error": {"message": f"Incorrect API key provided: {own}"}})
        return True

    def _get(self, writer: asyncio.StreamWriter, path: str) -> None:
        if path.split("/")[-1] not in self.behaviour.endpoints:
            _answer(writer, 404, {"detail": "Not Found"})
        elif path == "/v1/models":
            about = {"id": MODEL, "object": "model", "owned_by": "mock"}
            models = [{**about, "max_model_len": self.behaviour.max_model_len}]
            _answer(writer, 200, {"object": "list", "data": models})
        elif path == "/version":
            _answer(writer, 200, {"version": "1.0"})
        else:
            _answer(writer, 404, {"error": {"message": "not found"}})

    async def _complete(self, writer: asyncio.StreamWriter, path: str, asked: dict) -> None:  # type: ignore[type-arg]
        how, stamp = self.behaviour, Stamp(arrived_s=time.monotonic())
        chat = path == "/v1/chat/completions"
        if ("chat" if chat else "completions") not in how.endpoints:
            return _answer(writer, 404, {"detail": "Not Found"})
        self.count += 1
        if self.began is None:
            self.began = stamp.arrived_s
        if how.die_after is not None and self.count > how.die_after:
            os._exit(1)
        if asked["model"] != MODEL:
            message = f"The model `{asked['model']}` does not exist."
            return _answer(writer, 404, {"error": {"message": message}})
        if how.fail_every and self.count % how.fail_every == 0:
            return _answer(writer, 500, {"error": {"message": "made to fail"}})
        tokens = int(asked["max_tokens"]) - how.short_by
        length = self._chat_tokens(asked["messages"]) if chat else len(asked["prompt"])
        usage = {"prompt_tokens": length, "completion_tokens": tokens}
        if not asked.get("stream"):  # somebody tries it out: no part of a load
            self.count, self.began = self.count - 1, None
            said = {"usage": usage} if how.report_usage else {}
            return _answer(writer, 200, {**_chunk(path, "text", "length"), **said})
        stamp.prompt_tokens, stamp.output_tokens = length, tokens
        self.stamps.append(stamp)
        kind = "text/event-stream"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        if chat:  # the role comes first, and is no token
            _event(writer, _chunk(path, "", None))
            await writer.drain()
        async with self.slots:
            began = stamp.arrived_s if how.slots is None else time.monotonic()
            for n in range(tokens):
                await self._until(began + how.ttft_s + n * how.itl_s)
                _event(writer, _chunk(path, f" t{n}", "length" if n == tokens - 1 else None))
                await writer.drain()
                stamp.last_s = time.monotonic()
                if n == 0:
                    stamp.first_s = stamp.last_s
        if how.report_usage:
            _event(writer, {**_chunk(path, None, None), "choices": [], "usage": usage})
        _event(writer, None)
        writer.write(b"0\r\n\r\n")
        return None

    def _chat_tokens(self, messages: list[dict[str, str]]) -> int:
        words = [word for each in messages for word in each["content"].split()]
        return self.behaviour.template + sum(1 + (w in self.behaviour.split) for w in words)

    async def _until(self, due: float) -> None:
        how = self.behaviour
        if how.stall_at_s is not None and self.began is not None:
            stall = self.began + how.stall_at_s
            if stall <= due < stall + how.stall_s:
                due = stall + how.stall_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _chunk(path: str, text: str | None, finish: str | None) -> dict[str, object]:
    chat = path.endswith("/chat/completions")
    part = {"delta": {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": finish, **part}
    kind = "chat.completion.chunk" if chat else "text_completion"
    return {"id": "1", "object": kind, "model": MODEL, "choices": [choice]}


def _event(writer: asyncio.StreamWriter, value: object) -> None:
    data = b"data: " + (b"[DONE]" if value is None else json.dumps(value).encode()) + b"\n\n"
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _answer(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)


async def _main(behaviour: Behaviour, port: int) -> list[Stamp]:
    mock = _Mock(behaviour)
    server = await asyncio.start_server(mock.serve, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return mock.stamps


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour", nargs="?", default="{}")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    done = asyncio.run(_main(Behaviour(**json.loads(given.behaviour)), given.port))
    print(json.dumps([asdict(each) for each in done]))
