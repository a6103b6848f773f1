"""Servers that take a chat: prompts as long as asked, by the server's own count."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mock_server
import pytest
from command_line import Call

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite import registry
from tpubench.suite.serving import chat, server
from tpubench.suite.serving.endpoint import AUTO, CHAT, COMPLETIONS, Endpoint
from tpubench.suite.serving.load import Ask, Load

LOAD = ("run", "--workload", "llama-serve", "--preset", "tiny", "--set", "concurrency=2")
TIMING = {"ttft_s": 1.0, "itl_s": 0.005}
SERVICE = registry.services()["llama-serve"]
ASK = Ask(prompt=tuple(range(1000, 1016)), output_len=2)
ONLY_CHAT, ONLY_COMPLETIONS = ("chat", "models"), ("completions", "models")


def ready(wanted: str, **behaviour: Any) -> server.Server:
    with mock_server.running(**behaviour) as mock:
        return server.ready(server.find(mock.url, None), wanted, ASK)


@pytest.mark.nightly
@pytest.mark.usefixtures("aiperf")
def test_a_server_of_chats_alone_is_measured(call: Call) -> None:
    with mock_server.running(**TIMING, endpoints=ONLY_CHAT) as mock:
        done = call(
            *(*LOAD, "--server", mock.url, "--set", "requests=8", "--repeats", "1"),
            "--json",
        )
    assert done.code == 0, done
    rows = {row["metric"]: row for row in json.loads(done.out)["rows"]}
    assert rows["ttft_s"]["params"]["endpoint"] == "chat"
    assert rows["prompt_tokens"]["samples"] == [64.0] * 8
    assert rows["answer_tokens"]["samples"] == [32.0] * 8
    assert {stamp.prompt_tokens for stamp in mock.stamps} == {64}
    # The first chunk says who speaks, and is no token: it comes a second before the first that is.
    assert rows["ttft_s"]["value"] > 0.98
    assert len(rows["itl_s"]["samples"]) == 8 * 31
    own = sorted(stamp.first_s - stamp.arrived_s for stamp in mock.stamps)
    assert rows["ttft_s"]["value"] >= own[0]
    assert call("verify").code == 0


@pytest.mark.parametrize(
    ("endpoints", "wanted", "name"),
    [
        (ONLY_CHAT, AUTO, CHAT),
        (ONLY_CHAT, CHAT, CHAT),
        (ONLY_COMPLETIONS, AUTO, COMPLETIONS),
        (ONLY_COMPLETIONS, COMPLETIONS, COMPLETIONS),
        (("chat", "completions", "models"), AUTO, COMPLETIONS),
        (("chat", "completions", "models"), CHAT, CHAT),
    ],
)
def test_the_endpoint_is_the_one_asked_for_or_the_one_there_is(
    endpoints: tuple[str, ...], wanted: str, name: str
) -> None:
    assert ready(wanted, endpoints=endpoints).endpoint.name == name


@pytest.mark.parametrize(
    ("endpoints", "wanted", "words"),
    [
        (ONLY_CHAT, COMPLETIONS, r"answered HTTP 404: Not Found$"),
        (ONLY_COMPLETIONS, CHAT, r"answered HTTP 404: Not Found$"),
        (("models",), AUTO, r"HTTP 404: Not Found; and as a chat: .* HTTP 404: Not Found$"),
    ],
)
def test_an_endpoint_that_is_not_there_is_said(
    endpoints: tuple[str, ...], wanted: str, words: str
) -> None:
    with pytest.raises(RunFailedError, match=words):
        ready(wanted, endpoints=endpoints)


def test_a_server_without_a_list_is_asked_for_the_model_that_is_named() -> None:
    with mock_server.running(endpoints=("chat",)) as mock:
        with pytest.raises(UsageError, match="models is not there: if the URL is right"):
            server.find(mock.url, None)
        target = server.ready(server.find(mock.url, mock_server.MODEL), AUTO, ASK)
    assert (target.model, target.endpoint.name) == (mock_server.MODEL, CHAT)


def counter(around: int, split: set[str]) -> Callable[[dict[str, Any]], int]:
    """A server's count: ``around`` tokens, and one a word, but two for some."""

    def count(prompt: dict[str, Any]) -> int:
        (only,) = prompt["messages"]
        words = only["content"].split()
        return around + len(words) + sum(word in split for word in words)

    return count


@pytest.mark.parametrize("split", [set(), {"time"}, {"people", "school", "force"}])
def test_words_that_are_not_a_token_each_are_left_out(split: set[str]) -> None:
    learned = chat.learned(counter(30, split), "http://h")
    assert learned.around == 31, "the template, and the word in front of all others"
    assert not split & set(learned.words) and len(learned.words) > 60
    for length in (32, 64, 2048):
        ask = Ask(prompt=tuple(range(1000, 1000 + length)), output_len=4)
        assert counter(30, split)(learned.body("m", ask)) == length  # type: ignore[arg-type]


def test_a_chat_without_such_words_is_refused() -> None:
    def letters(prompt: dict[str, Any]) -> int:
        return len(prompt["messages"][0]["content"])

    with pytest.raises(RunFailedError, match="no words are a token each"):
        chat.learned(letters, "http://h")


def one(preset: str, **settings: str) -> Load:
    (load,) = SERVICE.loads(preset, {key: [value] for key, value in settings.items()})
    return load


def test_what_prompts_share_they_share_as_words() -> None:
    endpoint = chat.learned(counter(30, set()), "http://h")
    for preset, least in (("chat", 1536 - 31), ("1k-1k", 0)):
        asks = SERVICE.asks(one(preset, concurrency="1", requests="4"), 3)
        bodies: list[Any] = [endpoint.body("m", ask) for ask in asks]
        texts = [body["messages"][0]["content"].split()[1:] for body in bodies]
        assert len({" ".join(text) for text in texts}) == len(asks), "no prompt is sent twice"
        pairs = zip(texts[0], texts[1], strict=True)
        same = next(n for n, (a, b) in enumerate(pairs) if a != b)
        assert least <= same < least + 8


def test_a_prompt_with_no_room_beside_the_template_is_refused(call: Call) -> None:
    with pytest.raises(UsageError, match=r"a prompt of 31 tokens has no room .* takes 31"):
        Endpoint(name=CHAT, words=("a",), around=31).check(31)
    Endpoint(name=CHAT, words=("a",), around=31).check(32)
    Endpoint().check(1)


def test_an_unknown_endpoint_is_bad_usage(call: Call) -> None:
    said = call(*LOAD, "--server", "http://h", "--endpoint", "responses", "--dry-run").error(2)
    assert said == "--endpoint 'responses' is not one of auto, completions, chat"
