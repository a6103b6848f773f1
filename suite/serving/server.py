"""The server under test as it presents itself: which models, which version, how long a context."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.results.plain_text import one_line
from tpubench.suite.serving import chat
from tpubench.suite.serving.endpoint import AUTO, CHAT, LEAD, Endpoint
from tpubench.suite.serving.key import OPTION, Key, hidden
from tpubench.suite.serving.load import Ask

_ASK_S, _FIRST_ANSWER_S = 10.0, 300.0
_MOST_BYTES = 1 << 20
_LONGEST_WORDS = 200
_NO_KEY = {401, 403}
_NO_SUCH_PATH = {404, 405, 501}
_NOT_SO = _NO_SUCH_PATH | {400, 422}
"""Answers to a request that may be right elsewhere."""
LOCAL = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered. engine: what it says it is (``vllm``); ``server`` where it does not.

    max_len: most tokens of prompt and answer together; None where it does not say.
    """

    url: str
    model: str
    engine: str
    version: str | None
    max_len: int | None
    here: bool
    """Whether it runs on this machine."""
    key: Key | None = field(default=None, repr=False)
    endpoint: Endpoint = field(default_factory=Endpoint)


class RefusedError(RunFailedError):
    """The server answered that it will not."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def find(url: str, model: str | None, key: Key | None = None) -> Server:
    """The server at ``url`` and the one of its models to use.

    UsageError for a URL that is none, or a model that it has not; RunFailedError where nothing
    answers, or no such key is taken.
    """
    parts = _parts(url)
    base = url.rstrip("/").removesuffix("/v1")
    chosen = _chosen(base, _listed(base, model, key), model)
    length = chosen.get("max_model_len")
    version = _version(base, key)
    engine = str(chosen.get("owned_by") or "")
    return Server(
        url=base,
        model=str(chosen["id"]),
        engine=engine if engine.isidentifier() and len(engine) < 30 else "server",
        version=version,
        max_len=length if isinstance(length, int) else None,
        here=parts.hostname in LOCAL,
        key=key,
    )


def _parts(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        plain = parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        plain = False
    if not plain or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--server {url!r} is no URL: write it as http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("--server takes a plain URL: no user, no password, no query")
    return parts


def _listed(base: str, model: str | None, key: Key | None) -> list[dict[str, Any]]:
    """Its models; the one asked for where it has no list."""
    try:
        listed = _get(f"{base}/v1/models", base, key).get("data")
    except RefusedError as error:
        if error.code not in _NO_SUCH_PATH:
            raise
        if model is None:
            raise UsageError(
                f"{base}/v1/models is not there: if the URL is right, name the model: --model NAME"
            ) from None
        return [{"id": model}]
    models = listed if isinstance(listed, list) else []
    return [one for one in models if isinstance(one, dict) and one.get("id")]


def _chosen(url: str, models: list[dict[str, Any]], model: str | None) -> dict[str, Any]:
    names = ", ".join(one_line(str(one["id"]))[:80] for one in models[:8]) or "none"
    if model is None:
        if len(models) != 1:
            raise UsageError(f"{url} serves {len(models)} models: give --model, one of {names}")
        return models[0]
    for one in models:
        if one["id"] == model:
            return one
    raise UsageError(f"{url} has no model {model!r}; it has {names}")


def _version(base: str, key: Key | None) -> str | None:
    try:
        said = _get(f"{base}/version", base, key).get("version")
    except RunFailedError:
        return None
    return one_line(hidden(said, key))[:60] if isinstance(said, str) else None


def ready(server: Server, wanted: str, ask: Ask) -> Server:
    """The server with the endpoint to use, once a short request has been answered there.

    wanted: ``completions``, ``chat``, or ``auto`` for a chat where there are no completions.
    RunFailedError with what the server said against it.
    """
    if wanted == CHAT:
        return _chat(server, ask)
    try:
        _counted(server, server.endpoint.body(server.model, ask), "completion_tokens")
    except RefusedError as error:
        if wanted != AUTO or error.code not in _NOT_SO:
            raise
        try:
            return _chat(server, ask)
        except RefusedError as second:
            raise RefusedError(f"{error}; and as a chat: {second}", second.code) from None
    return server


def _chat(server: Server, ask: Ask) -> Server:
    def count(prompt: dict[str, object]) -> int:
        body = {**endpoint.body(server.model, replace(ask, output_len=1)), **prompt}
        return _counted(replace(server, endpoint=endpoint), body, "prompt_tokens")

    endpoint = Endpoint(name=CHAT, words=(LEAD,))
    return replace(server, endpoint=chat.learned(count, server.url))


def _counted(server: Server, body: Mapping[str, object], which: str) -> int:
    """Send a request, to its end; so many tokens, as the server counts them."""
    whole = {key: value for key, value in body.items() if not key.startswith("stream")}
    request = urllib.request.Request(
        f"{server.url}{server.endpoint.path}",
        json.dumps(whole).encode(),
        {"Content-Type": "application/json"},
    )
    usage = _open(request, server.url, _FIRST_ANSWER_S, server.key).get("usage")
    tokens = usage.get(which) if isinstance(usage, dict) else None
    if not isinstance(tokens, int) or tokens < 1:
        raise RunFailedError(
            f"{server.url} does not count tokens (no usage in its answer): a load cannot be proved"
        )
    return tokens


def _get(url: str, base: str, key: Key | None) -> dict[str, Any]:
    return _open(urllib.request.Request(url), base, _ASK_S, key)


def _open(
    request: urllib.request.Request, base: str, timeout_s: float, key: Key | None
) -> dict[str, Any]:
    for name, value in ({} if key is None else key.headers).items():
        request.add_unredirected_header(name, value)  # where else it is sent, nobody said
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            said = json.loads(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        words = hidden(_words(error.read(_MOST_BYTES)), key)
        raise RefusedError(_refusal(base, error.code, words, key), error.code) from None
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason)
        raise RunFailedError(
            f"cannot reach {base}: {one_line(why)}; start the server, or give its --server URL"
        ) from None
    except (ValueError, RecursionError, http.client.HTTPException):
        said = None
    if not isinstance(said, dict):
        raise RunFailedError(f"{base} does not answer as an OpenAI-compatible server")
    return said


def _refusal(base: str, code: int, words: str, key: Key | None) -> str:
    if code not in _NO_KEY:
        return f"{base} answered HTTP {code}{words}"
    if key is None:
        return (
            f"{base} asks for a key (HTTP {code}{words}): export it, and name the variable:"
            f" {OPTION} NAME"
        )
    return f"{base} does not take the key in ${key.variable} (HTTP {code}{words})"


def _words(body: bytes) -> str:
    """What an error's body says, as servers differ: ``error.message``, ``message``, ``detail``."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(said, dict):
        inner = said.get("error")
        place = inner if isinstance(inner, dict) else said
        text = place.get("message") or place.get("detail")
        if isinstance(text, str):
            return f": {one_line(text)[:_LONGEST_WORDS]}"
    return ""
