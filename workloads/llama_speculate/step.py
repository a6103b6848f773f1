"""The timed program: a draft proposes tokens, the target verifies them in one pass of k + 1.

A round begins with the two newest tokens of each sequence. The draft takes both in its first pass
(the older one is new to it where all of its proposals were kept), then its own tokens one by one;
the target takes the newest token and the drafts. What was refused is rolled back: the next round
begins at the position after the last token that was kept, hides every slot from there on, and
writes over it. All sequences of a batch keep the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Step, Weights, Window
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.model import KVCache, Llama
from tpubench.workloads.llama.quantized import held
from tpubench.workloads.llama.weights import Piece, Source, fill, source
from tpubench.workloads.llama_speculate.acceptance import positions


class TargetAndDraft(nn.Module):
    """Target and draft as one module, either of which a call runs."""

    def __init__(self, target: Llama, draft: Llama | None) -> None:
        super().__init__()
        self.target = target
        self.draft = draft

    def forward(
        self,
        drafting: bool,
        tokens_BL: Tensor,
        positions_L: Tensor,
        cache: KVCache,
        slots: int | None,
        every: bool,
    ) -> Tensor:
        model = self.draft if drafting else self.target
        assert model is not None
        return cast(Tensor, model(tokens_BL, positions_L, cache, slots, every))


class FirstLayers:
    """The first layers of a model, under its own norm and head: a draft that often agrees."""

    def __init__(self, whole: Source, config: LlamaConfig) -> None:
        self.whole, self.config = whole, config

    def identity(self) -> dict[str, object]:
        return {"config": self.config.to_json(), "of": self.whole.identity()}

    def pieces(self, name: str) -> Iterator[Piece]:
        return self.whole.pieces(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a round begins: the position of its newest token, and those of its passes."""

    position: int
    drafting: Sequence[Tensor]
    """Positions of each pass of the draft: [2], then [1]."""
    verifying: Tensor
    """[k + 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round gave.

    before: [B, 2], the two newest tokens before it. drafts: [B, k], what was proposed. verified:
    [B, k + 1], the target's own choice after each token that it took. agreed: [B], proposals before
    the first that the target would not have chosen. kept: proposals that were kept.
    """

    spot: Spot
    before: Tensor
    drafts: Tensor
    verified: Tensor
    agreed: Tensor
    kept: int

    def given(self) -> Tensor:
        """What the target took: the newest token and the drafts."""
        return torch.cat((self.before[:, 1:], self.drafts), dim=1)


class SpeculativeStep(Step):
    """Prefill, and rounds of proposing and verifying, of one batch."""

    def __init__(
        self,
        pair: TargetAndDraft,
        caches: tuple[KVCache, KVCache | None],
        prompt_BL: Tensor,
        *,
        kept: Sequence[int],
        draft_tokens: int,
        weights: tuple[Source, Source | None],
        free_drafts: Sequence[Tensor] = (),
    ) -> None:
        """kept: proposals kept in each round. weights: of target and draft. free_drafts: [B, k] of
        each round, where no model makes them."""
        self.pair = pair
        self.module = pair if pair.draft is not None else pair.target
        self.target_cache, self.draft_cache = caches
        self.weights, self.draft_weights = weights
        self.prompt_BL, self.draft_tokens = prompt_BL, draft_tokens
        self.kept, self.free_drafts = list(kept), free_drafts
        self.marks = ("prefill", *["decode"] * len(kept))
        device, length = prompt_BL.device, prompt_BL.shape[1]
        self.prompt_positions_L = torch.arange(length, device=device)
        # Made beforehand: nothing but the models runs inside the window.
        self.spots = [self.spot(at) for at in positions(length, kept)]
        self.kept_1 = [torch.tensor([drafts]).to(device) for drafts in kept]
        self.place_k = torch.arange(draft_tokens, device=device)
        self.first_B2 = prompt_BL[:, -1:]
        self.rounds: list[Round] = []

    def spot(self, position: int) -> Spot:
        """A round whose newest token is at ``position``."""
        device = self.prompt_BL.device

        def tensor(*where: int) -> Tensor:
            return torch.tensor(where).to(device)

        later = range(position + 1, position + self.draft_tokens)
        return Spot(
            position=position,
            drafting=[tensor(position - 1, position), *(tensor(at) for at in later)],
            verifying=tensor(*range(position, position + self.draft_tokens + 1)),
        )

    def prefill(self) -> Tensor:
        """Target's logits [B, V] after the prompt, which the draft's cache has then too."""
        length = self.prompt_BL.shape[1]
        logits_BV = self._target(self.prompt_BL, self.prompt_positions_L, length, every=False)
        if self.draft_cache is not None:
            self._draft(self.prompt_BL, self.prompt_positions_L, length)
        return logits_BV

    def propose(
        self,
        spot: Spot,
        before_B2: Tensor,
        free_Bk: Tensor | None = None,
        watch: Callable[[Tensor], Tensor | None] = lambda _: None,
    ) -> Tensor:
        """Drafts [B, k]; ``watch`` sees the draft's logits [B, V] and may say which token to take.

        free_Bk: what to propose where no model does.
        """
        if self.draft_cache is None:
            assert free_Bk is not None
            return free_Bk
        tokens_BL, drafts = before_B2, []
        for index, positions_L in enumerate(spot.drafting):
            logits_BV = self._draft(tokens_BL, positions_L, spot.position + index + 1)
            chosen_B1 = watch(logits_BV)
            tokens_BL = logits_BV.argmax(-1, keepdim=True) if chosen_B1 is None else chosen_B1
            drafts.append(tokens_BL)
        return torch.cat(drafts, dim=1)

    def verify(self, spot: Spot, given_BJ: Tensor) -> Tensor:
        """Target's logits [B, k + 1, V] after the newest token and each draft."""
        slots = spot.position + self.draft_tokens + 1
        return self._target(given_BJ, spot.verifying, slots, every=True)

    def round(self, spot: Spot, before_B2: Tensor, free_Bk: Tensor | None, kept: int) -> Round:
        drafts_Bk = self.propose(spot, before_B2, free_Bk)
        given_BJ = torch.cat((before_B2[:, 1:], drafts_Bk), dim=1)
        verified_BJ = self.verify(spot, given_BJ).argmax(dim=-1)
        return Round(
            spot=spot,
            before=before_B2,
            drafts=drafts_Bk,
            verified=verified_BJ,
            agreed=self.agreed(drafts_Bk, verified_BJ),
            kept=kept,
        )

    def agreed(self, drafts_Bk: Tensor, verified_BJ: Tensor) -> Tensor:
        """Drafts of each sequence before the first that the target would not have chosen."""
        same_Bk = drafts_Bk == verified_BJ[:, :-1]
        return torch.where(same_Bk, self.draft_tokens, self.place_k).amin(dim=1)

    def after(self, done: Round, kept_1: Tensor) -> Tensor:
        """The two newest tokens [B, 2] once so many drafts are kept."""
        last_B1 = done.given().index_select(1, kept_1)
        return torch.cat((last_B1, done.verified.index_select(1, kept_1)), dim=1)

    def run(self, mark: Mark) -> None:
        self.first_B2, self.rounds = self._generate(len(self.kept), mark)

    @torch.no_grad()
    def _generate(self, rounds: int, mark: Mark) -> tuple[Tensor, list[Round]]:
        """The two newest tokens before the first round, and so many rounds."""
        first_B2 = before_B2 = self._first(mark)
        done: list[Round] = []
        for index, spot in enumerate(self.spots[:rounds]):
            free_Bk = self.free_drafts[index] if self.free_drafts else None
            done.append(self.round(spot, before_B2, free_Bk, self.kept[index]))
            before_B2 = self.after(done[-1], self.kept_1[index])
            mark(before_B2)
        return first_B2, done

    def _shorter_pass(self, rounds: int, mark: Mark) -> None:
        self._generate(rounds, mark)

    @torch.no_grad()
    def vary(self, by: int) -> bool:
        """Every token of the prompt ``by`` further on in the vocabulary."""
        self.prompt_BL.copy_((self.prompt_BL + by) % self.weights.config.vocab)
        return True

    def excerpt(self) -> Window:
        rounds = min(len(self.kept), 1)
        return Window(run=partial(self._shorter_pass, rounds), marks=self.marks[: 1 + rounds])

    def refill(self) -> None:
        """Bring the caches to where the last pass left them: other windows have since left refused
        proposals in slots that it had written over."""
        self._generate(len(self.kept), lambda *_: None)
        self.barrier()

    @torch.no_grad()
    def run_verified(self) -> None:
        """A pass that keeps what the target would have chosen in every sequence, and no more: the
        tokens are those of plain greedy decoding. The host waits for each round."""
        self.first_B2 = before_B2 = self._first(lambda *_: None)
        self.rounds = []
        length = self.prompt_BL.shape[1]
        position, end = length, length + sum(self.kept) + len(self.kept)
        while position < end:
            done = self.round(self.spot(position), before_B2, None, 0)
            kept = min(int(done.agreed.min()), end - position - 1)
            self.rounds.append(replace(done, kept=kept))
            before_B2 = self.after(done, torch.tensor([kept]).to(before_B2.device))
            position += kept + 1

    def _first(self, mark: Mark) -> Tensor:
        """The prompt's last token and the first new one, [B, 2]."""
        newest_B1 = self.prefill().argmax(dim=-1, keepdim=True)
        before_B2 = torch.cat((self.prompt_BL[:, -1:], newest_B1), dim=1)
        mark(before_B2)
        return before_B2

    @torch.no_grad()
    def _first_token(self, mark: Mark) -> None:
        self._first(mark)

    def windows(self) -> Mapping[str, Window]:
        named = {
            "prefill": Window(run=self._first_token, marks=self.marks[:1]),
            "ttft": Window(run=self._first_token, marks=self.marks[:1], kind="latency"),
        }
        shorter = len(self.kept) // 2
        if shorter:
            named["shorter pass"] = Window(
                run=partial(self._shorter_pass, shorter),
                marks=self.marks[: 1 + shorter],
                kind="cross-check",
            )
        return named

    def tokens(self) -> Tensor:
        """New tokens of the last pass on the host, [B, output]: those kept and no others."""
        parts = [self.first_B2[:, 1:].cpu()]
        for done in self.rounds:
            parts += [done.drafts.cpu()[:, : done.kept]]
            parts += [done.verified.cpu()[:, done.kept : done.kept + 1]]
        return torch.cat(parts, dim=1)

    def generated(self) -> list[int]:
        return [int(token) for token in self.tokens()[0]]

    def caches(self) -> list[KVCache]:
        return [cache for cache in (self.target_cache, self.draft_cache) if cache is not None]

    def written(self) -> list[Tensor]:
        return [buffer for cache in self.caches() for buffer in cache.buffers()]

    def _target(self, tokens: Tensor, positions_L: Tensor, slots: int, *, every: bool) -> Tensor:
        return self._call(False, tokens, positions_L, self.target_cache, slots, every)

    def _draft(self, tokens: Tensor, positions_L: Tensor, slots: int) -> Tensor:
        assert self.draft_cache is not None
        return self._call(True, tokens, positions_L, self.draft_cache, slots, False)

    def _call(
        self,
        drafting: bool,
        tokens: Tensor,
        positions_L: Tensor,
        cache: KVCache,
        slots: int,
        every: bool,
    ) -> Tensor:
        # A prompt fills its slots exactly, whatever comes after it.
        known = None if self.static_shapes and tokens.shape[1] < slots else slots
        return cast(Tensor, self.pair(drafting, tokens, positions_L, cache, known, every))


def build(
    case: Case,
    config: LlamaConfig,
    draft: LlamaConfig | None,
    device: Device,
    weights: Weights,
    kept: Sequence[int],
) -> SpeculativeStep:
    """Models, caches and prompt of ``case`` on ``device``."""
    holding = held(case)
    batch, length = case.number("batch"), case.number("input_len")
    k, seed = case.number("draft_tokens"), case.number("seed")
    capacity = length + case.number("output_len") + k
    where = device.torch_device

    def model(shape: LlamaConfig, stored: Source) -> tuple[Llama, KVCache]:
        with torch.device(where):
            built = Llama(shape, capacity, holding.dtype)
            cache = KVCache(shape, batch, capacity, holding.dtype)
        fill(built, stored)
        return built.eval().requires_grad_(False), cache

    stored = source(config, seed, weights.path, where)
    target, target_cache = model(config, stored)
    drafting: Llama | None = None
    draft_cache: KVCache | None = None
    draft_stored: Source | None = None
    if draft is not None:
        own = case.params["draft"] != FIRST_LAYERS
        draft_stored = source(draft, seed, None, where) if own else FirstLayers(stored, draft)
        drafting, draft_cache = model(draft, draft_stored)
    generator = torch.Generator().manual_seed(seed)
    prompt_BL = torch.randint(0, config.vocab, (batch, length), generator=generator)
    free = [torch.randint(0, config.vocab, (batch, k), generator=generator) for _ in kept]
    return SpeculativeStep(
        TargetAndDraft(target, drafting).eval(),
        (target_cache, draft_cache),
        prompt_BL.to(where),
        kept=kept,
        draft_tokens=k,
        weights=(stored, draft_stored),
        free_drafts=[] if draft is not None else [drafts.to(where) for drafts in free],
    )


FIRST_LAYERS = "first layers"
"""The draft of a float32 twin: the target's own layers but for the last."""


def count(case: Case, config: LlamaConfig, draft: LlamaConfig | None) -> dict[str, int]:
    """FLOPs of one verification and one pass of the draft over two tokens, at the end of the
    context, counted on meta tensors. torch counts attention as if it were not causal."""
    batch, k = case.number("batch"), case.number("draft_tokens")
    capacity = case.number("input_len") + case.number("output_len") + k

    def flops(shape: LlamaConfig, tokens: int, every: bool) -> int:
        with torch.device("meta"):
            model = Llama(shape, capacity, held(case).dtype).eval()
            cache = KVCache(shape, batch, capacity, held(case).dtype)
            tokens_BL = torch.empty(batch, tokens, dtype=torch.int64)
            positions_L = torch.empty(tokens, dtype=torch.int64)
        with torch.inference_mode(), FlopCounterMode(display=False) as counted:
            model(tokens_BL, positions_L, cache, capacity, every)
        return int(counted.get_total_flops())

    return {
        "verify_flops": flops(config, k + 1, True),
        "draft_flops": 0 if draft is None else flops(draft, 2, False),
    }
