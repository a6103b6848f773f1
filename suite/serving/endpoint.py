"""How a request is put: as token ids to ``/v1/completions``, or as a message of a chat.

A chat takes words, which the server turns into tokens, between those of its template. So that a
prompt is as long as asked, its words are ones that are a single token each, and so many are left
out as the template takes: both are counted by the server (:mod:`tpubench.suite.serving.chat`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.errors import UsageError
from tpubench.suite.serving.load import Ask

COMPLETIONS, CHAT, AUTO = "completions", "chat", "auto"
WANTED = (AUTO, COMPLETIONS, CHAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests go. name: as AIPerf calls it.

    words: of a chat, one token each. around: tokens of a chat's prompt that are none of its words.
    """

    name: str = COMPLETIONS
    words: tuple[str, ...] = ()
    around: int = 0

    @property
    def path(self) -> str:
        """Behind the server's URL."""
        return f"/v1/{'chat/' if self.name == CHAT else ''}completions"

    def body(self, model: str, ask: Ask) -> dict[str, object]:
        """A request: so many tokens in, exactly so many out, as a stream.

        ``ignore_eos`` is vLLM's, SGLang's and TensorRT-LLM's word for not ending early.
        """
        return {
            "model": model,
            **self._prompt(ask),
            "max_tokens": ask.output_len,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _prompt(self, ask: Ask) -> dict[str, object]:
        if self.name == COMPLETIONS:
            return {"prompt": list(ask.prompt)}
        # What is left out is left out in front: prompts that share their first tokens still do.
        chosen = [self.words[each % len(self.words)] for each in ask.prompt[self.around :]]
        return message(chosen)

    def check(self, shortest: int) -> None:
        """UsageError where a prompt of that many tokens has no room for a word."""
        if shortest <= self.around:
            raise UsageError(
                f"a prompt of {shortest} tokens has no room for words: this chat's template takes"
                f" {self.around}: give --set input_len=N"
            )


LEAD = "Words:"
"""So that every word comes after a space: at the start of a text it may be another token."""


def message(words: list[str]) -> dict[str, object]:
    """A chat of one message with these words."""
    return {"messages": [{"role": "user", "content": " ".join([LEAD, *words])}]}
