"""Attention of one new token over the filled blocks of a static cache (FlexAttention).

A masked attention reads every slot that a cache has, filled or not. Here the cache counts as blocks
of slots, and how many of them hold anything is a tensor that the step computes from its position:
one compiled program, and one captured graph, serves every step, and each reads the filled blocks
alone. Compiled for a GPU it is torch's kernel for decoding, which splits a sequence's blocks among
its processors; uncompiled it computes every score, as the masked one does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Slots = int | Literal["filled blocks"] | None
"""Which slots of the cache attention reads: ``Llama.forward`` says."""
BLOCK, SMALL_BLOCK = 128, 16
"""Slots of a block: torch's own size, which its kernels are tuned for; and the least that a GPU's
matrix units multiply, for a cache that would be a block or less."""


class Filled(NamedTuple):
    """The blocks up to a token's own, for every sequence and head: int32 each.

    blocks: [1, 1, 1], how many. numbers: [1, 1, 1, N], of all blocks of the cache, in order.
    position: [], of the token.
    """

    blocks: Tensor
    numbers: Tensor
    position: Tensor


def block_slots(capacity: int) -> int:
    """Slots of a block in a cache of so many."""
    return BLOCK if capacity > BLOCK else SMALL_BLOCK


def slots_read(position: int, capacity: int) -> int:
    """Slots that the token at ``position`` reads: those of whole blocks, its own included."""
    size = block_slots(capacity)
    return min(capacity, (position // size + 1) * size)


def filled(position_1: Tensor, capacity: int) -> Filled:
    """What the token at ``position_1`` attends to."""
    size = block_slots(capacity)
    most = -(-capacity // size)
    number_N = torch.arange(most, dtype=torch.int32, device=position_1.device)
    own_1 = position_1.to(torch.int32)
    return Filled(
        blocks=(own_1 // size + 1).view(1, 1, 1),
        numbers=number_N.view(1, 1, 1, most),
        position=own_1.view(()),
    )


def attend(q_BKGH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, reach: Tensor | Filled | None) -> Tensor:
    """One token's G query heads a key/value head, which stand in for the length: each key and value
    is read once and never repeated. [B, K, G, H].

    reach: slots by a mask or in filled blocks; None for all of them.
    """
    if not isinstance(reach, Filled):
        return F.scaled_dot_product_attention(q_BKGH, k_BKSH, v_BKSH, attn_mask=reach)
    from torch.nn.attention.flex_attention import BlockMask, flex_attention  # imports the compiler

    position = reach.position

    def within(_batch: Tensor, _head: Tensor, _query: Tensor, slot: Tensor) -> Tensor:
        return slot <= position

    # Partly filled blocks, all of them: where torch knows of full ones it splits the capacity among
    # the processors, not what is filled, and those with the empty part have nothing to do.
    mask = BlockMask.from_kv_blocks(
        reach.blocks,
        reach.numbers,
        BLOCK_SIZE=(BLOCK, block_slots(k_BKSH.shape[2])),
        mask_mod=within,
        seq_lengths=(q_BKGH.shape[2], k_BKSH.shape[2]),
        compute_q_blocks=False,  # which only gradients need
    )
    return flex_attention(q_BKGH, k_BKSH, v_BKSH, block_mask=mask)
