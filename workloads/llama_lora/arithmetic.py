"""What low-rank adapters add to a Llama: parameters, FLOPs and bytes, by closed form; no torch.

Each of a layer's seven projections W [out, in] computes W·x + (α/r)·B·(A·x), with A [r, in] and
B [out, r] (Hu et al., LoRA, 2021, section 4.1); W is frozen.
"""

from __future__ import annotations

from tpubench.workloads.llama.config import LlamaConfig


def adapter_params(config: LlamaConfig, rank: int) -> int:
    """Trained parameters: r·(in + out) of query, key, value, output, gate, up and down."""
    width, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    attention = 4 * config.d_model + 2 * width + 2 * keys
    ffn = 3 * (config.d_model + config.d_ffn)
    return config.n_layers * rank * (attention + ffn)


def step_flops(
    config: LlamaConfig, rank: int, batch: int, length: int, *, causal: bool = True
) -> int:
    """Model FLOPs of one step: 4 a frozen weight and token, 6 an adapter's, and attention thrice.

    The frozen weights are multiplied forward, and backward for the gradient of activations; there
    is no gradient of a weight. Nothing before the first layer is trained, so its query, key and
    value projections, and their A, are not gone back through.
    """
    frozen = config.n_layers * config.layer_matmul_params + config.head_params
    unneeded = _first_qkv(config) + 3 * rank * config.d_model
    pairs = length * (length + 1) // 2 if causal else length * length
    weights = 4 * frozen + 6 * adapter_params(config, rank) - 2 * unneeded
    products = 4 * config.n_layers * config.n_heads * config.head_dim * pairs  # QKᵀ and AV
    return batch * (length * weights + 3 * products)


def step_bytes(config: LlamaConfig, rank: int, dtype_bytes: int) -> int:
    """Bytes that a step must move at least once, activations left out.

    The frozen weights are read forward and backward, in the arithmetic's precision; the adapters
    too, and their gradient, weight and two moments, float32, are each written and read once.
    """
    lookup = 0 if config.tied else config.head_params
    adapters = adapter_params(config, rank)
    frozen = 2 * (config.n_params - lookup) - _first_qkv(config)
    return dtype_bytes * (frozen + 2 * adapters) + 8 * 4 * adapters


def held_bytes(config: LlamaConfig, rank: int, dtype_bytes: int) -> int:
    """Frozen weights, and of the adapters weight, gradient and two moments in float32."""
    return dtype_bytes * config.n_params + 4 * 4 * adapter_params(config, rank)


def _first_qkv(config: LlamaConfig) -> int:
    return config.d_model * (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
