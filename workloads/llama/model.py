"""A Llama-family decoder in plain PyTorch: the same program on every backend.

RMSNorm, rotary positions, grouped-query attention, SwiGLU, a static key/value cache. Query, key
and value share one projection, and so do gate and up, as serving engines do: fewer and larger
matrix multiplications. Nothing here knows a backend; packing weights or capturing graphs is the
backend's ``compile``.

Letters in tensor names: B batch, L new tokens, S cache slots read, D model width, N query heads,
K key/value heads, G query heads a key/value head, H head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.experts import Mixture
from tpubench.workloads.llama.filled import Filled, Slots, attend, filled
from tpubench.workloads.llama.latent import CachedLatentAttention
from tpubench.workloads.llama.quantized import Held, projection


def rope_frequencies(config: LlamaConfig) -> Tensor:
    """Rotary frequencies, radians a position: float32 of half of ``rotary_dim``, 0 for pairs that
    stay."""
    turned = config.turned_dim or config.rotary_dim
    return F.pad(_turning(config, turned), (0, (config.rotary_dim - turned) // 2))


def _turning(config: LlamaConfig, width: int) -> Tensor:
    """Those of the pairs that turn, [width/2]."""
    exponent = torch.arange(0, width, 2, dtype=torch.int64).float() / width
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        return 1.0 / (torch.tensor(scaling.pair_factors) * config.rope_theta**exponent)
    frequencies = 1.0 / (config.rope_theta**exponent)
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "yarn":
        low, high = (
            _pair_that_turns(config, width, turns)
            for turns in (scaling.fast_turns, scaling.slow_turns)
        )
        if scaling.whole_pairs:
            low, high = float(math.floor(low)), float(math.ceil(high))
        low, high = max(low, 0.0), min(high, width - 1.0)
        pairs = torch.arange(width // 2).float()
        slow = ((pairs - low) / max(high - low, 1e-3)).clamp(0.0, 1.0)
        return slow * frequencies / scaling.factor + (1 - slow) * frequencies
    # llama3: keep wavelengths far below the original context, divide those far above it, and
    # interpolate between the two.
    wavelengths = 2 * math.pi / frequencies
    position = scaling.original_context / wavelengths
    span = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = ((position - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


def _pair_that_turns(config: LlamaConfig, width: int, turns: float) -> float:
    """Which pair of a head turns so often within the original context; a fraction of one too."""
    assert config.rope_scaling is not None
    wavelength = config.rope_scaling.original_context / turns
    return width * math.log(wavelength / (2 * math.pi)) / (2 * math.log(config.rope_theta))


def rope_magnitude(config: LlamaConfig) -> Tensor:
    """What each of these pairs of queries and keys is multiplied by; 1 for those that stay."""
    turned = (config.turned_dim or config.rotary_dim) // 2
    magnitude = config.rope_scaling.magnitude if config.rope_scaling else 1.0
    return F.pad(torch.full((turned,), magnitude), (0, config.rotary_dim // 2 - turned), value=1.0)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 and scaled in the weight's precision."""

    def __init__(self, width: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))
        self.eps = eps

    def forward(self, x_BLD: Tensor) -> Tensor:
        return F.rms_norm(x_BLD, self.weight.shape, self.weight, self.eps)


class LayerCache(nn.Module):
    """Keys and values of one layer: [B, K, capacity, H] each, written in place, or with latent
    attention what both are made of, [B, 1, capacity, X]; in a layer with experts also which of them
    each token took, int32 of [B, 1, capacity, k]."""

    keys: Tensor
    values: Tensor
    latent: Tensor
    record: Tensor

    def __init__(
        self,
        config: LlamaConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        index: int,
    ) -> None:
        super().__init__()
        if config.latent is not None:
            kept = torch.zeros(batch, 1, capacity, config.cached_values, dtype=dtype)
            self.register_buffer("latent", kept, persistent=False)
        else:
            shape = (batch, config.n_kv_heads, capacity, config.head_dim)
            self.register_buffer("keys", torch.zeros(shape, dtype=dtype), persistent=False)
            self.register_buffer("values", torch.zeros(shape, dtype=dtype), persistent=False)
        if config.experts is not None and config.has_experts(index):
            taken = (batch, 1, capacity, config.experts.top_k)
            self.register_buffer("record", torch.zeros(taken, dtype=torch.int32), persistent=False)

    def parts(self) -> tuple[Tensor, ...]:
        return tuple(self.buffers())


class KVCache(nn.Module):
    """Keys and values of every layer, allocated once.

    A buffer for each layer, never a view of a larger one: torch_xla's compiled programs lose what
    is written through a view of their argument.
    """

    def __init__(self, config: LlamaConfig, batch: int, capacity: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.capacity = capacity
        self.layers = nn.ModuleList(
            LayerCache(config, batch, capacity, dtype, index) for index in range(config.n_layers)
        )

    def layer(self, index: int) -> tuple[Tensor, ...]:
        """What is cached and, last, where the layer has experts, the record of them."""
        return cast(LayerCache, self.layers[index]).parts()

    def records(self) -> list[Tensor]:
        """Which experts each token took, of the layers that have any: [B, 1, capacity, k] each."""
        layers = cast("list[LayerCache]", list(self.layers))
        return [layer.record for layer in layers if hasattr(layer, "record")]


class Attention(nn.Module):
    """Grouped-query attention over a static cache."""

    def __init__(self, config: LlamaConfig, held: Held) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.head_dim = config.head_dim
        heads = config.n_heads + 2 * config.n_kv_heads
        width = config.n_heads * config.head_dim
        self.qkv = projection(
            config.d_model, heads * config.head_dim, bias=config.attention_bias, held=held
        )
        self.out = projection(width, config.d_model, bias=config.output_bias, held=held)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps, held.dtype)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps, held.dtype)
        self.qk_norm = config.qk_norm

    def normed(self, heads_MH: Tensor, queries: int) -> Tensor:
        """Query heads and then key heads, [..., M, H], as they are to be rotated."""
        if not self.qk_norm:
            return heads_MH
        q_NH, k_KH = torch.split(heads_MH, [queries, heads_MH.shape[-2] - queries], dim=-2)
        return torch.cat((self.q_norm(q_NH), self.k_norm(k_KH)), dim=-2)

    def forward(
        self,
        x_BLD: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        positions_L: Tensor,
        reach: Tensor | Filled | None,
        slots: int,
    ) -> Tensor:
        B, L, _ = x_BLD.shape
        N, K, H = self.n_heads, self.n_kv_heads, self.head_dim
        cos_LH, sin_LH = rotary
        heads_BLMH = self.qkv(x_BLD).view(B, L, N + 2 * K, H)
        rotated_BLMH, v_BLKH = torch.split(heads_BLMH, [N + K, K], dim=2)
        rotated_BLMH = self.normed(rotated_BLMH, N)
        # Rotating by half a head is a roll; the sine carries its sign.
        rolled_BLMH = rotated_BLMH.roll(H // 2, dims=-1)
        rotated_BLMH = torch.addcmul(
            rotated_BLMH * cos_LH.unsqueeze(1), rolled_BLMH, sin_LH.unsqueeze(1)
        )
        q_BLNH, k_BLKH = torch.split(rotated_BLMH, [N, K], dim=2)
        return self.attend(q_BLNH, k_BLKH, v_BLKH, cache, positions_L, reach, slots)

    def attend(
        self,
        q_BLNH: Tensor,
        k_BLKH: Tensor,
        v_BLKH: Tensor,
        cache: tuple[Tensor, Tensor],
        positions_L: Tensor,
        reach: Tensor | Filled | None,
        slots: int,
    ) -> Tensor:
        """Write the new keys and values to the cache, attend to it, project: [B, L, D]."""
        B, L, N, H = q_BLNH.shape
        K = k_BLKH.shape[2]
        keys, values = cache
        keys.index_copy_(2, positions_L, k_BLKH.transpose(1, 2))
        values.index_copy_(2, positions_L, v_BLKH.transpose(1, 2))
        k_BKSH, v_BKSH = keys[:, :, :slots], values[:, :, :slots]
        if L == 1:
            y_BKGH = attend(q_BLNH.view(B, K, N // K, H), k_BKSH, v_BKSH, reach)
            y_BLD = y_BKGH.reshape(B, 1, N * H)
        elif isinstance(reach, Tensor):
            # A few tokens after many: likewise, head after head (M is G·L).
            G = N // K
            q_BKMH = q_BLNH.view(B, L, K, G, H).permute(0, 2, 3, 1, 4).reshape(B, K, G * L, H)
            mask_MS = reach.repeat(G, 1)
            y_BKMH = F.scaled_dot_product_attention(q_BKMH, k_BKSH, v_BKSH, attn_mask=mask_MS)
            y_BLD = y_BKMH.view(B, K, G, L, H).permute(0, 3, 1, 2, 4).reshape(B, L, N * H)
        else:
            y_BNLH = F.scaled_dot_product_attention(
                q_BLNH.transpose(1, 2),
                k_BKSH,
                v_BKSH,
                is_causal=True,
                enable_gqa=N != K,
            )
            y_BLD = y_BNLH.transpose(1, 2).reshape(B, L, N * H)
        return self.out(y_BLD)  # type: ignore[no-any-return]


def attention(config: LlamaConfig, held: Held) -> Attention | CachedLatentAttention:
    """That of a layer."""
    if config.latent is None:
        return Attention(config, held)
    return CachedLatentAttention(
        config,
        lambda width, rows: projection(width, rows, bias=False, held=held),
        lambda width: RMSNorm(width, config.norm_eps, held.dtype),
        held.dtype,
    )


class FeedForward(nn.Module):
    """SwiGLU: gate and up in one projection."""

    def __init__(self, width: int, d_ffn: int, held: Held, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = projection(width, 2 * d_ffn, bias=bias, held=held)
        self.down = projection(d_ffn, width, bias=bias, held=held)

    def forward(self, x_BLD: Tensor) -> Tensor:
        gate_BLF, up_BLF = self.gate_up(x_BLD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BLF) * up_BLF)  # type: ignore[no-any-return]


def feed_forward(config: LlamaConfig, held: Held, index: int) -> FeedForward | Mixture:
    """That of one layer."""
    experts = config.experts
    if experts is None or not config.has_experts(index):
        return FeedForward(config.d_model, config.d_ffn, held, bias=config.mlp_bias)
    width = experts.shared * experts.d_ffn
    shared = FeedForward(config.d_model, width, held) if width else None
    return Mixture(config.d_model, experts, held.dtype, shared)


class Block(nn.Module):
    """One decoder layer."""

    def __init__(self, config: LlamaConfig, held: Held, index: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps, held.dtype)
        self.attention = attention(config, held)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps, held.dtype)
        self.ffn = feed_forward(config, held, index)
        self.mixes = config.has_experts(index)

    def forward(
        self,
        x_BLD: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: tuple[Tensor, ...],
        positions_L: Tensor,
        reach: Tensor | Filled | None,
        slots: int,
    ) -> Tensor:
        kept, record = (cache[:-1], cache[-1:]) if self.mixes else (cache, ())
        h_BLD = x_BLD + self.attention(
            self.attention_norm(x_BLD), rotary, kept, positions_L, reach, slots
        )
        normed_BLD = self.ffn_norm(h_BLD)
        # A mixture also notes which experts it took.
        noted = (*record, positions_L) if record else ()
        return h_BLD + self.ffn(normed_BLD, *noted)  # type: ignore[no-any-return]


class Llama(nn.Module):
    """The decoder. Build it under ``torch.device(...)``; weights start uninitialised.

    ``capacity`` is the longest context it will be asked for; rotary tables are computed for it.
    ``quantized`` holds the projections of the layers in one byte a value (``llama/quantized.py``).
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        config: LlamaConfig,
        capacity: int,
        dtype: torch.dtype,
        quantized: str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        held = Held(dtype=dtype, quantized=quantized)
        table = torch.empty(config.vocab, config.d_model, dtype=dtype)
        if not table.is_meta:  # a draw there would import the compiler: a second of every process
            nn.init.normal_(table)
        self.embedding = nn.Embedding(config.vocab, config.d_model, _weight=table)
        self.blocks = nn.ModuleList(Block(config, held, index) for index in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps, dtype)
        self.head = nn.Linear(config.d_model, config.vocab, bias=False, dtype=dtype)
        if config.tied:
            self.head.weight = self.embedding.weight
        cos, sin = rope_tables(config, capacity, dtype, self.embedding.weight.device)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        tokens_BL: Tensor,
        positions_L: Tensor,
        cache: KVCache,
        slots: Slots,
        every: bool = False,
    ) -> Tensor:
        """Logits [B, V] of the last token, after adding ``tokens`` at ``positions`` to the cache;
        of ``every`` token, [B, L, V], where that is asked for.

        slots: how many cache slots attention reads, exactly the filled ones, so that a prompt or a
        single token needs no mask. None reads them all and masks the empty ones: for a backend that
        must not see a new shape at each token. "filled blocks" reads no more than those for a
        single token (``llama/filled.py``), where keys and values are cached; else it is None.
        """
        reach: Tensor | Filled | None = None
        one = tokens_BL.shape[1] == 1
        if slots == "filled blocks" and one and self.config.latent is None:
            slots = cache.capacity
            reach = filled(positions_L, slots)
        elif not isinstance(slots, int) or 1 < tokens_BL.shape[1] < slots:
            slots = slots if isinstance(slots, int) else cache.capacity
            slot_S = torch.arange(slots, device=positions_L.device)
            reach = slot_S <= positions_L.unsqueeze(1)
        rotary = (self.cos[positions_L], self.sin[positions_L])
        x_BLD = self.embedding(tokens_BL)
        for index, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, rotary, cache.layer(index), positions_L, reach, slots)
        return self.head(self.norm(x_BLD if every else x_BLD[:, -1]))  # type: ignore[no-any-return]


def rope_tables(
    config: LlamaConfig, capacity: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, [capacity, H] each, as :class:`Attention` multiplies them.

    With x = (x₁, x₂) in halves, rotation is (x₁cos − x₂sin, x₂cos + x₁sin): the roll of x by half
    a head is (x₂, x₁), so the first half of the sine is negated.
    """
    if device.type == "meta":
        empty = torch.empty(capacity, config.rotary_dim, dtype=dtype, device="meta")
        return empty, empty.clone()
    with torch.device("cpu"):
        angles = torch.outer(torch.arange(capacity).float(), rope_frequencies(config))
        magnitude = rope_magnitude(config)
        cos, sin = angles.cos() * magnitude, angles.sin() * magnitude
        tables = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return tables[0].to(device, dtype), tables[1].to(device, dtype)
