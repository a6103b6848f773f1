"""The standard shapes: how long requests and answers are, and what requests share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Lengths in tokens. prefix_len: the first tokens of a prompt that all requests share.

    requests: those measured where nothing else is asked for; 662 is the least for a p99.
    """

    summary: str
    input_len: int = 0
    output_len: int = 0
    prefix_len: int = 0
    requests: int = 662
    warm_up: int = 16
    traced: bool = False


SHAPES = {
    "1k-1k": Shape(summary="1024 tokens in, 1024 out", input_len=1024, output_len=1024),
    "8k-1k": Shape(summary="8192 tokens in, 1024 out", input_len=8192, output_len=1024),
    "chat": Shape(
        summary="a chat: 2048 tokens in, the first 1536 shared by all, 256 out",
        input_len=2048,
        output_len=256,
        prefix_len=1536,
    ),
    "trace": Shape(summary="a recorded trace, by its own clock (--set trace=FILE)", traced=True),
    "tiny": Shape(
        summary="for a CPU: 64 tokens in, 32 out; enough requests for a p90",
        input_len=64,
        output_len=32,
        requests=64,
        warm_up=4,
    ),
}
