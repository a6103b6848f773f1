"""Greedy generation as one module that keeps the state of a pass itself, for whole-call capture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tpubench.workloads.llama.filled import Slots
from tpubench.workloads.llama.model import KVCache, Llama


class Loop(nn.Module):
    """The decoder, its cache, and where a pass stands: newest token, its position, all tokens.

    A call is given no tensor and leaves its token in a place of its own, so that a captured call is
    one launch: nothing is copied in, and argmax and the next position are part of it.

    prompt: [B, L]. newest: [B, 1]. position, count: [1], of the newest token and of tokens of the
    pass. tokens: [B, T], those of the pass, which has at most T.
    """

    prompt: Tensor
    prompt_positions: Tensor
    newest: Tensor
    position: Tensor
    count: Tensor
    tokens: Tensor

    def __init__(self, model: Llama, cache: KVCache, prompt_BL: Tensor, output_len: int) -> None:
        super().__init__()
        self.model, self.cache = model, cache
        batch, length = prompt_BL.shape
        state = {
            "prompt": prompt_BL,
            "prompt_positions": torch.arange(length, device=prompt_BL.device),
            "newest": torch.zeros_like(prompt_BL[:, :1]),
            "position": prompt_BL.new_full((1,), length),
            "count": prompt_BL.new_full((1,), 1),
            "tokens": prompt_BL.new_zeros(batch, output_len),
        }
        for name, tensor in state.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, slots: Slots, first: bool) -> Tensor:
        """Logits [B, V] after the newest token, or, ``first``, after the prompt; the token that
        they choose is then the newest."""
        if first:
            logits_BV = self.model(self.prompt, self.prompt_positions, self.cache, slots)
            self.position.fill_(self.prompt.shape[1])
            self.count.zero_()
        else:
            logits_BV = self.model(self.newest, self.position, self.cache, slots)
            self.position.add_(1)
        self.newest.copy_(logits_BV.argmax(dim=-1, keepdim=True))
        self.tokens.index_copy_(1, self.count, self.newest)
        self.count.add_(1)
        return logits_BV  # type: ignore[no-any-return]

    def token(self, index: int) -> Tensor:
        """The ``index``-th token of the pass, [B, 1], where the next pass writes its own."""
        return self.tokens[:, index : index + 1]

    def stand_at(self, tokens_B1: Tensor, position_1: Tensor, count: int) -> None:
        """Go on after these tokens at this position, ``count`` tokens of the pass being there."""
        self.newest.copy_(tokens_B1)
        self.position.copy_(position_1)
        self.count.fill_(count)
