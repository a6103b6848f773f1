"""The server under test as it presents itself: which models, which version, how long a context."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.results.plain_text import one_line

_ASK_S, _FIRST_ANSWER_S = 10.0, 300.0
_MOST_BYTES = 1 << 20
_LONGEST_WORDS = 200
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


def find(url: str, model: str | None) -> Server:
    """The server at ``url`` and the one of its models to use.

    UsageError for a URL that is none, or a model that it has not; RunFailedError where nothing
    answers.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--server {url!r} is no URL: write it as http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query:
        raise UsageError("--server takes a plain URL: no user, no password, no query")
    base = url.rstrip("/").removesuffix("/v1")
    listed = _get(f"{base}/v1/models", base)
    models = [one for one in listed.get("data") or [] if isinstance(one, dict) and one.get("id")]
    chosen = _chosen(base, models, model)
    length = chosen.get("max_model_len")
    version = _version(base)
    engine = str(chosen.get("owned_by") or "")
    return Server(
        url=base,
        model=str(chosen["id"]),
        engine=engine if engine.isidentifier() and len(engine) < 30 else "server",
        version=version,
        max_len=length if isinstance(length, int) else None,
        here=parts.hostname in LOCAL,
    )


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


def _version(base: str) -> str | None:
    try:
        said = _get(f"{base}/version", base).get("version")
    except RunFailedError:
        return None
    return one_line(said)[:60] if isinstance(said, str) else None


def try_out(server: Server, body: Mapping[str, object]) -> None:
    """One request of the kind that will be measured, to its end.

    RunFailedError with what the server said against it.
    """
    whole = {key: value for key, value in body.items() if not key.startswith("stream")}
    data = json.dumps(whole).encode()
    headers = {"Content-Type": "application/json"}
    url = f"{server.url}/v1/completions"
    answer = _open(urllib.request.Request(url, data, headers), server.url, _FIRST_ANSWER_S)
    usage = answer.get("usage")
    if not isinstance(usage, dict) or not usage.get("completion_tokens"):
        raise RunFailedError(
            f"{server.url} does not count tokens (no usage in its answer): a load cannot be proved"
        )


def _get(url: str, base: str) -> dict[str, Any]:
    return _open(urllib.request.Request(url), base, _ASK_S)


def _open(request: urllib.request.Request, base: str, timeout_s: float) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            said = json.loads(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        words = _words(error.read(_MOST_BYTES))
        raise RunFailedError(f"{base} answered HTTP {error.code}{words}") from None
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason)
        raise RunFailedError(
            f"cannot reach {base}: {one_line(why)}; start the server, or give its --server URL"
        ) from None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise RunFailedError(f"{base} does not answer as an OpenAI-compatible server")
    return said


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
