"""The timed program of the Llama workloads: a model, its cache, a prompt, and one pass."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Step, Weights, Window
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.division import by_columns, by_rows
from tpubench.workloads.llama.experts import Stacked
from tpubench.workloads.llama.filled import Slots
from tpubench.workloads.llama.loop import Loop
from tpubench.workloads.llama.model import KVCache, Llama
from tpubench.workloads.llama.quantized import held
from tpubench.workloads.llama.weights import Source, fill, source

_EXCERPT = 8
"""Tokens that stand for a pass where a whole one would take too long."""


class LlamaStep(Step):
    """Prefill and greedy decode of one batch."""

    def __init__(
        self,
        model: Llama,
        cache: KVCache,
        prompt_BL: Tensor,
        *,
        output_len: int,
        weights: Source,
    ) -> None:
        """weights: of the whole model, where ``model`` is one rank's part."""
        self.weights = weights
        self.module = self.model = model
        self.loop: Loop | None = None
        self.cache = cache
        self.prompt_BL = prompt_BL
        self.output_len = output_len
        self.marks = ("prefill", *["decode"] * (output_len - 1))
        device, length = prompt_BL.device, prompt_BL.shape[1]
        self.prompt_positions_L = torch.arange(length, device=device)
        # One index tensor a step, made beforehand: nothing but the model runs inside the window.
        # Each is a tensor of its own: a view would bring its offset along, which compilers guard.
        self.positions_1 = [torch.tensor([length + step]).to(device) for step in range(output_len)]
        self.tokens: list[Tensor] = []
        self.earlier: list[Tensor] = []
        """Tokens of a pass before the last, drawn as passes went by; empty where none is kept: a
        library that records looks at every tensor that lives, at each submission."""
        self._keeps_one = prompt_BL.device.type in {"cpu", "cuda"}
        self._passes = 0

    def prefill(self) -> Tensor:
        """Logits [B, V] after the prompt."""
        slots = self.prompt_BL.shape[1]
        if self.loop is not None:
            return cast(Tensor, self.loop(slots, True))
        return cast(Tensor, self.model(self.prompt_BL, self.prompt_positions_L, self.cache, slots))

    def decode(self, tokens_B1: Tensor, index: int) -> Tensor:
        """Logits [B, V] after the ``index``-th new token."""
        slots = self._slots(index)
        if self.loop is not None:
            self.loop.stand_at(tokens_B1, self.positions_1[index], index + 1)
            return cast(Tensor, self.loop(slots, False))
        return cast(Tensor, self.model(tokens_B1, self.positions_1[index], self.cache, slots))

    def to_capture(self) -> Loop:
        self.loop = Loop(self.model, self.cache, self.prompt_BL, self.output_len)
        return self.loop

    def _slots(self, index: int) -> Slots:
        """Of those that hold something after the ``index``-th new token, what attention reads."""
        if self.static_shapes:
            return "filled blocks" if self.reads_filled else None
        return self.prompt_BL.shape[1] + index + 1

    def run(self, mark: Mark) -> None:
        if self._keeps_one and self.tokens:
            self._passes += 1
            if random.random() * self._passes < 1:
                self.earlier = self.tokens
        self.tokens = self._generate(self.output_len, mark)

    @torch.no_grad()
    def _generate(self, output_len: int, mark: Mark) -> list[Tensor]:
        """Tokens [B, 1] of each step, new tensors: no later step writes into them."""
        if self.loop is not None:
            return self._replay(self.loop, output_len, mark)
        tokens_B1 = self.prefill().argmax(dim=-1, keepdim=True)
        tokens = [tokens_B1]
        mark(tokens_B1)
        for index in range(output_len - 1):
            tokens_B1 = self.decode(tokens_B1, index).argmax(dim=-1, keepdim=True)
            tokens.append(tokens_B1)
            mark(tokens_B1)
        return tokens

    def _replay(self, loop: Loop, output_len: int, mark: Mark) -> list[Tensor]:
        """The same by captured calls alone: nothing runs between two of them. Each leaves its
        tokens in a place of their own, from which the pass takes them all at its end."""
        for index in range(output_len):
            if index:
                loop(self._slots(index - 1), False)
            else:
                self.prefill()
            mark(loop.token(index))
        return list(torch.split(loop.tokens[:, :output_len].clone(), 1, dim=1))

    @torch.no_grad()
    def vary(self, by: int) -> bool:
        """Every token of the prompt ``by`` further on in the vocabulary."""
        vocab = self.weights.config.vocab
        self.prompt_BL.copy_((self.prompt_BL + by) % vocab)
        return True

    def excerpt(self) -> Window:
        tokens = min(self.output_len, _EXCERPT)
        return Window(run=partial(self._shorter_pass, tokens), marks=self.marks[:tokens])

    def _shorter_pass(self, output_len: int, mark: Mark) -> None:
        self._generate(output_len, mark)

    @torch.no_grad()
    def _first_token(self, mark: Mark) -> None:
        logits_BV = self.prefill()
        mark(self.loop.token(0) if self.loop else logits_BV.argmax(dim=-1, keepdim=True))

    def windows(self) -> Mapping[str, Window]:
        shorter = max(1, self.output_len // 2)
        named = {
            "prefill": Window(run=self._first_token, marks=self.marks[:1]),
            "ttft": Window(run=self._first_token, marks=self.marks[:1], kind="latency"),
        }
        if shorter < self.output_len:
            named["shorter pass"] = Window(
                run=partial(self._shorter_pass, shorter),
                marks=self.marks[:shorter],
                kind="cross-check",
            )
        return named

    def generated(self) -> list[int]:
        """New token ids of the first sequence in the last pass."""
        return [int(tokens_B1[0, 0]) for tokens_B1 in self.tokens]

    def splits(self) -> list[tuple[Tensor, int]]:
        """Heads, features and vocabulary, as among ranks; of a mixture whole experts, since one
        dimension of a weight is cut."""
        config = self.model.config
        cut: list[tuple[Tensor, int]] = [(self.model.head.weight, 0)]
        for index, block in enumerate(self.model.blocks):
            rows, columns = by_rows(config, index), by_columns(config, index)
            for name, parameter in block.named_parameters():
                projection, _, kind = name.rpartition(".")
                stacked = isinstance(block.get_submodule(projection), Stacked)
                if projection in rows or (projection in columns and stacked):
                    cut.append((parameter, 0))
                elif projection in columns and kind == "weight":
                    cut.append((parameter, 1))
        heads = [buffer for buffer in self.cache.buffers() if buffer.shape[1] > 1]
        return cut + [(buffer, 1) for buffer in heads]

    def written(self) -> list[Tensor]:
        return list(self.cache.buffers())

    def routing(self) -> Tensor | None:
        """Experts that each token of the last pass took: [B, capacity, layers with experts, k],
        one layer's behind another's; None where there are none."""
        records = self.cache.records()
        return torch.stack([record[:, 0] for record in records], dim=2) if records else None


def build(case: Case, config: LlamaConfig, device: Device, weights: Weights) -> LlamaStep:
    """Model, cache and prompt of ``case`` on ``device``; weights created in their own dtype."""
    holding = held(case)
    dtype = holding.dtype
    batch, length = case.number("batch"), case.number("input_len")
    output_len, seed = case.number("output_len"), case.number("seed")
    capacity = length + output_len
    stored = source(config, seed, weights.path, device.torch_device)
    part = config
    if device.ranks > 1:
        from tpubench.workloads.llama import ranks

        model = ranks.build(config, capacity, holding, device, stored)
        part = ranks.share(config, device.ranks)
    else:
        with torch.device(device.torch_device):
            model = Llama(config, capacity, dtype, holding.quantized)
        fill(model, stored)
    with torch.device(device.torch_device):
        cache = KVCache(part, batch, capacity, dtype)
    model.eval().requires_grad_(False)
    if weights.prompt_ids is None:
        generator = torch.Generator().manual_seed(seed)
        prompt_BL = torch.randint(0, config.vocab, (batch, length), generator=generator)
    else:
        prompt_BL = torch.tensor([weights.prompt_ids])
    return LlamaStep(
        model,
        cache,
        prompt_BL.to(device.torch_device),
        output_len=output_len,
        weights=stored,
    )


def count(case: Case, config: LlamaConfig) -> dict[str, int]:
    """FLOPs and bytes of one prefill and of the last decode step, counted on meta tensors.

    Nothing is allocated. torch counts attention as if it were not causal, and an attention in
    which heads are grouped by its actual shapes.
    """
    holding = held(case)
    batch, length = case.number("batch"), case.number("input_len")
    capacity = length + case.number("output_len")
    with torch.device("meta"):
        model = Llama(config, capacity, holding.dtype, holding.quantized).eval()
        cache = KVCache(config, batch, capacity, holding.dtype)
        prompt_BL = torch.empty(batch, length, dtype=torch.int64)
        token_B1 = torch.empty(batch, 1, dtype=torch.int64)
        positions_L = torch.empty(length, dtype=torch.int64)
    read = sum(p.nbytes for p in model.parameters())
    if not config.tied:
        read -= model.embedding.weight.nbytes  # looked up, not read
    size = holding.dtype.itemsize
    unread = {
        tokens: (config.matmul_params - config.touched_params(tokens)) * size
        for tokens in (batch * length, batch)
    }
    slot_bytes = sum(b.nbytes for b in cache.buffers() if b.is_floating_point()) // capacity
    with torch.inference_mode():
        with FlopCounterMode(display=False) as prefill:
            model(prompt_BL, positions_L, cache, length)
        with FlopCounterMode(display=False) as decode:
            model(token_B1, positions_L[:1], cache, capacity)
    return {
        "prefill_flops": prefill.get_total_flops(),
        "prefill_bytes": read - unread[batch * length] + slot_bytes * length,
        "decode_flops": decode.get_total_flops(),
        "decode_bytes": read - unread[batch] + slot_bytes * capacity,
    }
