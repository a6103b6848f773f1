"""A chat's words and template, by the server's own count of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpubench.errors import RunFailedError
from tpubench.suite.serving.endpoint import CHAT, Endpoint, message

_WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend father power hour game line end member law car city community
name president team minute idea body information back parent face level office door health person
art war history party result change morning reason research girl guy moment air teacher force
"""
"""Common English nouns: a token each in the vocabularies of most models."""
_AT_ONCE = 8
"""Words counted together where not all of them are a token each."""
_LEAST_WORDS = 16


def learned(count: Callable[[dict[str, object]], int], server: str) -> Endpoint:
    """The chat of a server. count: tokens of a prompt, as the server counts them.

    RunFailedError where no words are a token each, so that no prompt would be as long as asked.
    """

    def tokens(words: Sequence[str]) -> int:
        return count(message(list(words)))

    around = tokens(())
    words: Sequence[str] = tuple(_WORDS.split())
    if tokens(words) != around + len(words):
        parts = [words[n : n + _AT_ONCE] for n in range(0, len(words), _AT_ONCE)]
        whole = [part for part in parts if tokens(part) == around + len(part)]
        words = tuple(word for part in whole for word in part)
        if len(words) < _LEAST_WORDS or tokens(words) != around + len(words):
            raise RunFailedError(
                f"{server} has a chat in which no words are a token each: prompts would not be as"
                " long as asked"
            )
    return Endpoint(name=CHAT, words=tuple(words), around=around)
