"""A Llama decoder written from its formulas: what a program's outputs are held against.

It shares with the programs under test only the shapes, the rotary frequencies and the source of
the weights: attention is spelled out, there is no cache, and tokens are teacher-forced, all at
once. One layer's weights exist at a time, so a large model needs one layer's memory. In float32 it
is the reference; in a smaller precision it is the measure of what that precision costs.

Letters in tensor names are those of ``llama/model.py``; P the positions kept, T the tokens judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tpubench.workloads.llama.config import Experts, LlamaConfig
from tpubench.workloads.llama.experts_reference import mixture
from tpubench.workloads.llama.latent_reference import latent_heads
from tpubench.workloads.llama.model import rope_frequencies, rope_magnitude
from tpubench.workloads.llama.quantized import Held
from tpubench.workloads.llama.weights import Source, shapes, whole

Layer = Mapping[str, Tensor]
"""Weights of one decoder layer by name, without the prefix."""

_SCORES = 2**25
"""Scores of attention, and logits, that exist at a time: 128 MiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Sequences to be forced through the decoder together.

    ids: [B, L], prompts and what was generated after them. keep: positions whose logits to give.
    dtype: the precision of this computation. exact: whether its float32 is float32 throughout.
    narrow: whether each token is rounded to fp8, by a scale of its own, before each projection.
    routing: [B, L, layers with experts, k], the experts that each token took; None takes the right
    ones.
    """

    ids: Tensor
    dtype: torch.dtype
    keep: Sequence[int] = ()
    exact: bool = True
    narrow: bool = False
    routing: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What a teacher-forced pass says, in float32 on the CPU.

    logits: [B, P, V] after the positions asked for. regret: [B, T] of each judged token: how far
    its logit is below the highest, in standard deviations of the logits at that position; 0 for
    the token that greedy decoding takes. routing: [B, L, layers with experts], how far each token's
    route is from the right one (``experts_reference.py``).
    """

    logits: Tensor
    regret: Tensor
    routing: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a reference is computed, and how.

    flush: submits what a device has recorded so far. exact: within it, float32 is float32.
    """

    device: str = "cpu"
    flush: Callable[[], None] = lambda: None
    exact: Callable[[], AbstractContextManager[object]] = nullcontext

    def precision(self, task: Task) -> AbstractContextManager[object]:
        return self.exact() if task.exact else nullcontext()


@torch.no_grad()
def force(
    weights: Source,
    tasks: Sequence[Task],
    *,
    judged_from: int,
    held: Held,
    place: Place,
) -> list[Forced]:
    """Logits, and the regret of the tokens from position ``judged_from`` on, for each task.

    held: the precision in which the program under test holds its weights. Each weight is taken
    from its source once for all tasks.
    """
    config, device = weights.config, place.device

    def get(name: str) -> Tensor:
        return whole(weights, name, held=held, device=device)

    tokens = [task.ids.to(device) for task in tasks]
    turns = [rotation(config, task.ids.shape[1], task.dtype, device) for task in tasks]
    table_VD = get("embedding.weight")
    flows = [table_VD[t].to(task.dtype) for t, task in zip(tokens, tasks, strict=True)]
    names = list(shapes(config))
    strays: list[list[Tensor]] = [[] for _ in tasks]
    for index in range(config.n_layers):
        prefix = f"blocks.{index}."
        stored = {n.removeprefix(prefix): get(n) for n in names if n.startswith(prefix)}
        mixed = index - config.experts.dense_layers if config.experts else -1
        for number, task in enumerate(tasks):
            layer = {name: weight.to(task.dtype) for name, weight in stored.items()}
            with place.precision(task):
                sequences = torch.split(flows[number], 1)
                turn, parts, regrets = turns[number], [], []
                for row, x in enumerate(sequences):
                    ffn = None
                    if config.experts is not None and mixed >= 0:
                        route = None if task.routing is None else task.routing[row, :, mixed]
                        ffn = _Mixture(config.experts, layer, route)
                    parts.append(decoder_layer(config, layer, x, turn, task.narrow, ffn))
                    regrets += [ffn.regret] if ffn is not None else []
                flows[number] = torch.cat(parts)
                strays[number] += [torch.stack(regrets)] if regrets else []
                place.flush()
    head_VD = table_VD if config.tied else get("head.weight")
    norm_D = get("norm.weight")
    outcome = []
    for task, ids_BL, x_BLD, stray in zip(tasks, tokens, flows, strays, strict=True):
        with place.precision(task):
            y_BLD = rms_norm(x_BLD, norm_D.to(task.dtype), config.norm_eps)
            said = _said(task, ids_BL, y_BLD, head_VD.to(task.dtype), judged_from, place)
            routing = torch.stack(stray, dim=2).cpu() if stray else torch.zeros(*ids_BL.shape, 0)
            outcome.append(replace(said, routing=routing))
    return outcome


class _Mixture:
    """The mixture of one layer for one sequence; what it said of the route is kept."""

    def __init__(self, experts: Experts, layer: Layer, chosen_Lk: Tensor | None) -> None:
        self.experts, self.layer, self.chosen_Lk = experts, layer, chosen_Lk
        self.regret = torch.empty(0)

    def __call__(self, x_BLD: Tensor) -> Tensor:
        chosen = None if self.chosen_Lk is None else self.chosen_Lk.to(x_BLD.device)
        y_LD, self.regret = mixture(self.experts, self.layer, x_BLD[0], chosen)
        return y_LD.unsqueeze(0)


def _said(
    task: Task, ids_BL: Tensor, y_BLD: Tensor, head_VD: Tensor, judged_from: int, place: Place
) -> Forced:
    kept = [(y_BLD[:, position] @ head_VD.T).float() for position in task.keep]
    empty = y_BLD.new_zeros(len(y_BLD), 0, len(head_VD), dtype=torch.float32)
    rows = max(1, _SCORES // len(head_VD))
    regrets = []
    for ids_L, y_LD in zip(ids_BL, y_BLD, strict=True):
        chosen = torch.split(ids_L[judged_from:], rows)
        before = torch.split(y_LD[judged_from - 1 : -1], rows)
        pieces = [_regret(y @ head_VD.T, t) for y, t in zip(before, chosen, strict=True)]
        regrets.append(torch.cat(pieces))
        place.flush()
    logits = torch.stack(kept, dim=1) if kept else empty
    regret = torch.stack(regrets).cpu()
    return Forced(logits=logits.cpu(), regret=regret, routing=regret.new_zeros(0))


def _regret(logits_TV: Tensor, chosen_T: Tensor) -> Tensor:
    logits_TV = logits_TV.float()
    best_T = logits_TV.amax(dim=1)
    taken_T = logits_TV.gather(1, chosen_T.unsqueeze(1)).squeeze(1)
    return (best_T - taken_T) / logits_TV.std(dim=1)


def rotation(
    config: LlamaConfig, length: int, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, [L, 1, H/2] each."""
    angles_LC = torch.outer(torch.arange(length).float(), rope_frequencies(config))
    magnitude = rope_magnitude(config)
    cos, sin = angles_LC.cos() * magnitude, angles_LC.sin() * magnitude
    return cos.to(device, dtype).unsqueeze(1), sin.to(device, dtype).unsqueeze(1)


def decoder_layer(
    config: LlamaConfig,
    layer: Layer,
    x_BLD: Tensor,
    turn: tuple[Tensor, Tensor],
    narrow: bool = False,
    ffn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One layer over whole sequences; ``ffn`` in place of SwiGLU where there are experts."""
    N, K, H = config.n_heads, config.n_kv_heads, config.head_dim
    B, L, _ = x_BLD.shape

    def linear(name: str, x: Tensor) -> Tensor:
        x = rounded_to_fp8(x) if narrow else x
        y = x @ layer[f"{name}.weight"].T
        return y + layer[f"{name}.bias"] if f"{name}.bias" in layer else y

    def turned(x_BLMH: Tensor) -> Tensor:
        first, second = x_BLMH.chunk(2, dim=3)
        cos, sin = turn
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=3)

    normed_BLD = rms_norm(x_BLD, layer["attention_norm.weight"], config.norm_eps)
    if config.latent is not None:
        q, k, v_BLNH = latent_heads(
            config, layer, normed_BLD, linear=linear, norm=rms_norm, turned=turned
        )
        y_BLNH = causal_attention(config.latent.magnitude**2 * q, k, v_BLNH)
    else:
        qkv_BLMH = linear("attention.qkv", normed_BLD).view(B, L, N + 2 * K, H)
        q, k, v_BLKH = torch.split(qkv_BLMH, [N, K, K], dim=2)
        if config.qk_norm:
            q = rms_norm(q, layer["attention.q_norm.weight"], config.norm_eps)
            k = rms_norm(k, layer["attention.k_norm.weight"], config.norm_eps)
        y_BLNH = causal_attention(turned(q), turned(k), v_BLKH)
    h_BLD = x_BLD + linear("attention.out", y_BLNH.reshape(B, L, N * H))
    normed_BLD = rms_norm(h_BLD, layer["ffn_norm.weight"], config.norm_eps)
    if ffn is not None:
        return h_BLD + ffn(normed_BLD)
    gate_BLF, up_BLF = torch.split(linear("ffn.gate_up", normed_BLD), config.d_ffn, dim=2)
    return h_BLD + linear("ffn.down", gate_BLF * torch.sigmoid(gate_BLF) * up_BLF)


def causal_attention(q_BLNH: Tensor, k_BLKH: Tensor, v_BLKH: Tensor) -> Tensor:
    """softmax(QKᵀ/√H)·V where a query sees itself and what came before; scores in float32. Values
    may be of another width than the heads that are compared."""
    B, L, N, H = q_BLNH.shape
    K = k_BLKH.shape[2]
    k_BKSH, v_BKSH = k_BLKH.transpose(1, 2).float(), v_BLKH.transpose(1, 2)
    q_BKGLH = q_BLNH.view(B, L, K, N // K, H).permute(0, 2, 3, 1, 4).float()
    step = max(1, _SCORES // (B * N * L))
    parts = []
    for first in range(0, L, step):
        q_part = q_BKGLH[:, :, :, first : first + step]
        scores = q_part @ k_BKSH.unsqueeze(2).transpose(3, 4) / math.sqrt(H)
        key_S = torch.arange(L, device=scores.device)
        future_LS = key_S > key_S[first : first + step].unsqueeze(1)
        attend = scores.masked_fill(future_LS, -math.inf).softmax(dim=4)
        parts.append(attend.to(v_BKSH.dtype) @ v_BKSH.unsqueeze(2))
    y_BKGLH = torch.cat(parts, dim=3)
    return y_BKGLH.permute(0, 3, 1, 2, 4).reshape(B, L, N, v_BLKH.shape[3])


def rounded_to_fp8(x: Tensor) -> Tensor:
    """Each token to the 256 values of e4m3, the largest of the token at 448."""
    step = x.float().abs().amax(dim=-1, keepdim=True).clamp_min(1e-27) / 448
    return ((x.float() / step).to(torch.float8_e4m3fn).float() * step).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x over its root mean square, in float32, times ``weight``."""
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (scaled * weight.float()).to(x.dtype)
