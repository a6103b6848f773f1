"""Seconds of one training step, by class of work, from closed forms.

FLOPs of a token are 6 for each parameter in a matrix product (2 forward, 4 backward; 4 for
adapters, whose frozen weights need no gradient) and three times the causal half of attention;
recomputed activations add a forward pass. A pipeline of p stages with v chunks each and m
micro-batches idles (p − 1)/(v·m) of the time. For each micro-batch sharded weights are gathered
twice and gradients scattered; tensor parallelism sums activations four times a layer. All seconds
are those of a chip for each token, summed over the chips that share it.
"""

from __future__ import annotations

from dataclasses import replace

from tpubench.devices.sheets import NVIDIA
from tpubench.estimates.problem import OWN, Training
from tpubench.estimates.roofline import experts
from tpubench.estimates.roofline.activations import computed_again
from tpubench.estimates.roofline.operators import link, matmul
from tpubench.estimates.roofline.terms import ATTENTION, PROGRAM, STREAM, Terms
from tpubench.suite.decoder import Decoder

HIDDEN = 0.3
"""Share of the exchange between chips that runs while the chips compute, before correction: a
round figure, chosen among 0, 0.15, 0.3, 0.5, 0.7 and 0.9 by sources held out."""

ACTIVATION_BYTES = 80.0
"""Bytes moved for each layer and model dimension of a token, forward and backward: about forty
readings or writings of two bytes between the matrix products, before correction."""
SCAN_BYTES = 250.0
"""Bytes moved for each layer and model dimension of a token by a state-space layer that is twice as
wide inside: projections, convolution, chunks of the scan and their states in four bytes, gated
norm; about forty readings or writings of the inner width and again for the backward pass. Assumed
from the steps of Mamba-2's kernels (Dao and Gu 2024, arXiv:2405.21060), not measured."""
ROUTED_BYTES = 24.0
"""The same for each expert that a token is sent to: gathered, scattered, weighted, and back."""
OPTIMIZER_BYTES = 28.0
"""Bytes moved for each parameter by one AdamW update: gradient, two moments, both weights."""

PYTORCH = frozenset({"llm-foundry", "torchtitan", "torchtune", "pytorch"})
"""Trainers whose attention is PyTorch's, FlashAttention-2 on Nvidia."""
CUDNN = 0.58
"""The same of other trainers on Nvidia. Assumed, not measured: between the 509 TFLOP/s of cuDNN and
the 740 of FlashAttention-3, forward on an H100 (Shah et al. 2024, arXiv:2407.08608)."""
EXPONENTIALS = 1.25
"""Speed of attention on Blackwell Ultra relative to Blackwell, whose units compute half as many
exponentials a second (developer.nvidia.com, "Inside NVIDIA Blackwell Ultra", 2025). Measured
forward, 64 heads over 8,192 tokens in bfloat16: 1.21 and 1.33 on B300 against B200, 1.30 and 1.21
on GB300 against GB200 (github.com/ai-dynamo/aiconfigurator, context attention of vLLM 0.24)."""
FLASH_2, FLASH_2_LATER = 0.60, 0.32
"""Share of the bfloat16 peak that FlashAttention-2 reaches forward and backward: 190 of 312 TFLOP/s
on an A100; 320 of 989 on an H100, whose newer instructions it does not use (Dao 2023,
arXiv:2307.08691, figures 4 to 7, up to 335)."""
FLASH_1 = 0.5
"""Speed of the first FlashAttention relative to the second, which is stated to be about twice as
fast (Dao 2023, abstract: 25-40 % of an A100's peak against 50-73 %)."""
FLASH_2_SINCE = 2023.85
"""When PyTorch trainers began to use it: llm-foundry allows it since October 2023
(github.com/mosaicml/llm-foundry, pull request 672), PyTorch since 2.2 of January 2024."""

COUNTED_SINCE = 2026.43
"""When Megatron-Bridge began to count gates other than SwiGLU's, and windows of attention: for its
release 26.06 (github.com/NVIDIA-NeMo/Megatron-Bridge, pull requests 3947 of 22 May 2026 and 3029).
Its figures for GPT-OSS before that count 17 % less over 4,096 tokens than this formula."""

MLPERF_SAMPLES = {
    "gpt-3-175b": 0.65e6,
    "llama-3.1-405b": 0.29e6,
    "llama-2-70b": 3.4e3,
    "sd-v2-training": 5.6e6,
}
"""Samples until an MLPerf training benchmark reaches its target, at a usual batch; the fit
corrects it for the batch."""


def flops_per_token(problem: Training, *, attention: str | None = None) -> float:
    """Model FLOPs of one training token, as the source counts them; in full where there is none."""
    shape, seq_len = _shape(problem), problem.seq_len or 4096.0
    factor = 4.0 if problem.tuning == "lora" else 6.0
    active, pairs = shape.active, _attention_flops(shape, seq_len)
    theirs = problem.software == "megatron-bridge" and problem.family != OWN
    if theirs and problem.date < COUNTED_SINCE:
        pairs = _attention_flops(replace(shape, window=None), seq_len)
        active -= shape.gelu_gates
    full = (attention or problem.attention) == "full"
    return factor * active + factor / 2 * pairs * (2 if full else 1)


def terms(problem: Training) -> Terms:
    """The prediction of a training figure."""
    shape, chip = _shape(problem), problem.chip
    seq_len = problem.seq_len or 4096.0
    peak = chip.peak(problem.precision) or chip.peak_flop_s["bfloat16"]
    factor = 4.0 if problem.tuning == "lora" else 6.0
    linear = factor * shape.active
    attention = factor / 2 * _attention_flops(shape, seq_len)
    again = computed_again(problem, shape)
    rate = peak * matmul(chip.name, problem.precision, shape.narrowness(problem.tensor)) * PROGRAM
    routed = min(0.9, shape.experts_used / shape.active)
    matmul_s = again * linear * (1 - routed) / rate
    experts_s = experts.seconds(problem, shape, again * linear * routed / rate)
    attention_s = again * attention / (chip.peak_flop_s["bfloat16"] * _attention_share(problem))
    memory_s = again * _traffic(problem, shape, seq_len) / (chip.hbm_bytes_s * STREAM)
    compute_s = matmul_s + experts_s + attention_s + memory_s
    bubble = _bubble(problem)
    link_s, waited_s = _exchange_s(problem, shape, seq_len)
    if problem.global_batch is None or not problem.layout_stated:
        link_s = min(link_s, 0.3 * compute_s)  # whoever laid it out hid most of the exchange
    exposed_s = waited_s + (1 - HIDDEN) * link_s + max(0.0, HIDDEN * link_s - compute_s)
    seconds = {
        "matmul": matmul_s * (1 + bubble),
        "experts": experts_s * (1 + bubble),
        "attention": attention_s * (1 + bubble),
        "memory": memory_s * (1 + bubble),
        "link": exposed_s,
    }
    scale, rate = _scale(problem, shape)
    tokens = (problem.global_batch or 0.0) * seq_len / max(problem.chips, 1)
    model_chips = problem.tensor * problem.pipeline * problem.context
    replicas = max(1.0, problem.chips / model_chips)
    if problem.microbatch:
        micro = problem.microbatch
    elif problem.global_batch and problem.pipeline == 1:
        micro = max(1.0, problem.global_batch / replicas)
    else:
        micro = 1.0
    detail = {
        "bubble": bubble,
        "link_ratio": (link_s + waited_s) / compute_s,
        "tokens_per_chip": tokens or 8192.0,
        "micro_tokens": micro * seq_len / problem.tensor / problem.context,
    }
    return Terms(seconds=seconds, scale=scale, rate=rate, detail=detail)


def _attention_share(problem: Training) -> float:
    if problem.chip.vendor != NVIDIA:
        return ATTENTION
    if problem.software not in PYTORCH:
        return CUDNN * (EXPONENTIALS if problem.chip.generation == "Blackwell Ultra" else 1.0)
    share = FLASH_2 if problem.chip.generation == "Ampere" else FLASH_2_LATER
    return share * (FLASH_1 if problem.date < FLASH_2_SINCE else 1.0)


def _shape(problem: Training) -> Decoder:
    """The model as trained: Megatron's recipes predict further tokens where the authors did
    (github.com/NVIDIA-NeMo/Megatron-Bridge, recipes of DeepSeek-V3: mtp_num_layers = 1), MaxText's
    do not (github.com/AI-Hypercomputer/tpu-recipes, training/ironwood/deepseek3-671b)."""
    ahead = problem.shape.ahead and problem.software in experts.MEGATRON
    return problem.shape.looking_ahead() if ahead else problem.shape


def _attention_flops(shape: Decoder, seq_len: float) -> float:
    """Forward FLOPs of attention for one token, causal half."""
    return shape.attention_flops(1, seq_len) / 2


def _traffic(problem: Training, shape: Decoder, seq_len: float) -> float:
    """Bytes a token that norms, activations, routing and the optimizer move."""
    scans = shape.scan_layers
    moved = ACTIVATION_BYTES * shape.layers * shape.d_model
    if scans:  # a layer is half a block there: attention, a scan or a feed-forward part
        half = ACTIVATION_BYTES / 2 * (shape.layers - scans)
        moved = (half + SCAN_BYTES * scans) * shape.d_model
    moved += ROUTED_BYTES * shape.routed_layers * shape.d_routed * shape.top_k
    if problem.global_batch and problem.tuning == "full":
        tokens = problem.global_batch * seq_len
        moved += OPTIMIZER_BYTES * shape.params / tokens
    return moved


def _bubble(problem: Training) -> float:
    if problem.pipeline <= 1:
        return 0.0
    replicas = max(1.0, problem.chips / (problem.tensor * problem.pipeline * problem.context))
    batch = problem.global_batch or replicas * 8 * problem.pipeline
    micro = max(1.0, batch / replicas / (problem.microbatch or 1.0))
    return min(3.0, (problem.pipeline - 1) / (problem.virtual * micro))


def _exchange_s(problem: Training, shape: Decoder, seq_len: float) -> tuple[float, float]:
    """Seconds of exchange for one token on one chip: that can run beside arithmetic, that cannot.

    What cannot: tensor parallelism, except of dense models in Megatron's trainers and where the
    source says that it is asynchronous (elsewhere a product's input is gathered first, and its
    result is reduced before the next: pytorch.org, "Introducing Async Tensor Parallelism in
    PyTorch", 2024), and tokens sent to experts beyond the links of a host, which the next product
    waits for. Megatron's recipes with experts leave it off where they cut products at all
    (github.com/NVIDIA-NeMo/Megatron-Bridge, tp_comm_overlap = False for DeepSeek-V3 and for
    Qwen3-235B on H100; that of Nemotron 3 Super does not set it).
    """
    chip, split = problem.chip, problem.tensor * problem.pipeline
    inside = chip.link_bytes_s / 2 * link(chip)
    spans = problem.chips > chip.domain
    data_rate = min(chip.nic_bytes_s * 0.6, inside) if spans and not chip.is_tpu else inside
    hidden = exposed = tensor = 0.0
    replicas = max(1.0, problem.chips / (split * problem.context))
    if problem.slices > 1:
        batch = problem.global_batch or problem.chips
        own = shape.params / problem.chips * problem.slices
        hidden += 2 * 2.0 * own / (chip.nic_bytes_s / 8) / max(batch * seq_len / problem.chips, 1.0)
    if replicas > 1 and problem.tuning == "full":
        batch = problem.global_batch or problem.chips
        tokens = max(batch * seq_len / replicas / problem.context, 1.0)
        gathers = 1.0
        if problem.sharded and problem.pipeline == 1 and problem.microbatch:
            gathers = max(1.0, batch / replicas / problem.microbatch)
        local = 1.0 if spans else (replicas - 1) / replicas
        passes = (3 * gathers if problem.sharded else 2) * local
        routed = min(shape.experts_total, shape.params) if problem.expert > 1 else 0.0
        dense, routed = shape.params - routed, routed / problem.expert
        if not chip.is_tpu and spans:  # chips of a host that hold the same carry a part each across
            same = chip.joined / problem.tensor
            dense /= max(1.0, same)
            routed /= max(1.0, same / problem.expert)
        hidden += 2.0 * (dense + routed) * passes / data_rate / tokens
    if problem.tensor > 1:
        per_token = 8 * shape.layers * shape.d_model * 2.0
        tensor = per_token * (problem.tensor - 1) / inside
    if problem.expert > 1 and shape.experts:
        sent = experts.copies_sent(problem, shape)
        exchanged = 4 * shape.routed_layers * sent * shape.d_routed * 2.0
        if problem.expert <= chip.domain:
            hidden += 0.0 if experts.fused(problem) else exchanged / inside
        else:
            exposed += exchanged / (chip.nic_bytes_s * 0.6)
    overlapped = problem.software in experts.MEGATRON and not shape.experts
    if overlapped or "async tp" in problem.notes:
        return hidden + tensor, exposed
    return hidden, exposed + tensor


def _scale(problem: Training, shape: Decoder) -> tuple[float, bool]:
    """What the seconds of one token on one chip must be divided into, or multiplied with."""
    metric, seq_len = problem.metric, problem.seq_len or 4096.0
    batch = problem.global_batch or 1.0
    if metric == "train_tok_s_per_chip":
        return 1.0, True
    if metric == "train_tok_s":
        return float(problem.chips), True
    if metric == "samples_s":
        return problem.chips / seq_len, True
    if metric == "samples_s_per_chip":
        return 1 / seq_len, True
    if metric == "step_time_s":
        return batch * seq_len / problem.chips, False
    if metric == "time_to_train_s":
        needed = MLPERF_SAMPLES.get(shape.name, 1e6)
        return needed * seq_len / problem.chips, False
    flops = flops_per_token(problem)
    if metric == "flop_s_per_chip":
        return flops, True
    peak = problem.chip.peak(problem.precision) or problem.chip.peak_flop_s["bfloat16"]
    if problem.software == "megatron-bridge" or problem.software == "maxtext":
        peak = problem.chip.peak_flop_s["bfloat16"] if problem.precision == "int8" else peak
    again = 4 / 3 if metric == "hfu" and problem.remat is not False else 1.0
    if metric == "hfu" and problem.remat is None:
        again = 4 / 3
    return again * flops / peak, True
