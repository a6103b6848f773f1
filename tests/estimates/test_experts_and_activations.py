"""Routed experts and kept activations of a training step, against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from problems import make_serving, make_training

from tpubench.estimates.problem import OWN, Problem
from tpubench.estimates.roofline import activations, experts, training
from tpubench.estimates.roofline.operators import link
from tpubench.suite import decoders
from tpubench.suite.decoder import Decoder


def deepseek(**stated: Any) -> Problem:
    """DeepSeek-V3 on 256 B200 with 32 experts a chip, as Megatron-Bridge 26.04 published it."""
    problem = make_training(
        "nvidia-b200-sxm", model="deepseek-v3", metric="train_tok_s_per_chip",
        software="megatron-bridge", precision="fp8", chips=256, pipeline=16, expert=8,
        microbatch=1.0, global_batch=4096.0, seq_len=4096.0, date=2026.29, sharded=False,
    )  # fmt: skip
    return replace(problem, **stated)


def shape_of(name: str) -> Decoder:
    shape = decoders.find_decoder(name)
    assert shape is not None
    return shape


def test_experts_of_all_layers_are_counted_from_their_parameters() -> None:
    assert shape_of("deepseek-v3").experts_of_all_layers == pytest.approx(58 * 256)
    assert shape_of("llama-3.1-8b").experts_of_all_layers == 0
    latent = shape_of("nemotron-3-super")  # experts of width 1024 inside, not of the model's 4096
    assert latent.routed_layers == pytest.approx(40.6, abs=0.1)
    assert latent.scan_layers == pytest.approx(88 - 8 - 40.6, abs=0.1)
    assert shape_of("kimi-linear-48b").scan_layers == 0  # each of its layers has experts, too
    assert shape_of("deepseek-v3").scan_layers == 0


def test_launches_of_experts_are_shared_by_the_tokens_of_a_micro_batch() -> None:
    problem = deepseek()
    shape = shape_of("deepseek-v3")
    assert experts.tokens_each(problem, shape) == 4096 * 8 * 8 / 256
    alone = shape.experts_speed(
        problem.chip.peak_flop_s["fp8"] / problem.chip.hbm_bytes_s, 1024.0, (16.0, 40.0)
    )
    launched = 58 * 256 / 8 * 22 * experts.LAUNCH_S / 4096
    assert experts.seconds(problem, shape, 1e-4) == pytest.approx(1e-4 / alone + launched)
    wide = experts.seconds(deepseek(precision="bfloat16"), shape, 0.0)
    assert wide == pytest.approx(launched * 6 / 22)
    assert experts.seconds(deepseek(software="maxtext"), shape, 0.0) == 0
    assert experts.seconds(deepseek(microbatch=None), shape, 0.0) == 0


def test_fused_experts_move_less_launch_nothing_and_hide_their_exchange() -> None:
    before, since = deepseek(expert=8), deepseek(expert=8, date=2026.458)
    assert experts.fused(since) and not experts.fused(before)
    shape = shape_of("deepseek-v3")
    assert experts.seconds(since, shape, 0.0) == 0
    assert experts.seconds(since, shape, 1e-4) < experts.seconds(before, shape, 1e-4)
    assert training.terms(since).seconds["link"] < training.terms(before).seconds["link"]
    for other in (
        replace(since, precision="bfloat16"),
        replace(since, precision="fp4"),
        replace(since, software="nemo"),
        replace(since, chip=make_serving("nvidia-h100-sxm").chip),
        replace(since, shape=shape_of("nemotron-3-super")),
    ):
        assert not experts.fused(other)


def test_copies_of_a_token_go_once_to_each_other_host() -> None:
    shape = shape_of("deepseek-v3")
    assert experts.copies_sent(deepseek(expert=8), shape) == pytest.approx(4 * 7 / 8)
    four_hosts = experts.copies_sent(deepseek(expert=32), shape)
    assert four_hosts == pytest.approx(3 * (1 - (3 / 4) ** 8))
    assert experts.copies_sent(deepseek(expert=64), shape) > four_hosts


def test_kept_activations_of_a_layer_are_those_of_the_literature() -> None:
    shape = shape_of("gpt-3-175b")
    problem = make_training(model="gpt-3-175b", metric="step_time_s")
    head = shape.active - 96 * 12 * 12288**2  # the output head's inputs and results
    kept = activations.kept_bytes(problem, shape, 1000.0) - 2000 * head / 12288
    # Korthikanti et al. 2022, equation 1 without scores and dropout masks: 34 - 2 bytes of each
    # token and width, where flash attention keeps no scores.
    assert kept == pytest.approx(1000 * 96 * 32 * 12288)
    plain = activations.kept_bytes(replace(problem, pipeline=8), shape, 1000.0)
    assert plain == activations.kept_bytes(problem, shape, 1000.0)  # as many layers in all
    deep = activations.kept_bytes(replace(problem, pipeline=8, virtual=2), shape, 1000.0)
    assert deep == pytest.approx(activations.kept_bytes(problem, shape, 1000.0) * (1 + 7 / 8 / 2))


def test_state_of_a_parameter_is_shared_by_the_chips_that_share_it() -> None:
    problem = make_training(metric="step_time_s", chips=8)
    shape = shape_of("llama-3.1-8b")
    assert activations.state_bytes(problem, shape) == 16 * shape.params / 8
    held = replace(problem, sharded=False, tensor=2, chips=16)
    assert activations.state_bytes(held, shape) == pytest.approx(shape.params / 2 * (6 + 12 / 8))
    routed = shape_of("deepseek-v3")
    state = activations.state_bytes(deepseek(), routed)
    own = routed.experts_total / 8 / 16
    other = (routed.params - routed.experts_total) / 16
    assert state == pytest.approx(own * (6 + 12 / 2) + other * (6 + 12 / 16))


def test_what_does_not_fit_is_computed_again() -> None:
    problem = make_training(metric="step_time_s", chips=8, microbatch=1.0, global_batch=64.0)
    shape = shape_of("llama-3.1-8b")
    assert activations.computed_again(problem, shape) == activations.LITTLE
    assert activations.computed_again(replace(problem, remat=True), shape) == 4 / 3
    assert activations.computed_again(replace(problem, remat=False), shape) == 1
    crowded = [
        activations.computed_again(replace(problem, microbatch=float(size)), shape)
        for size in (2, 4, 8, 64)
    ]
    assert crowded == sorted(crowded)
    assert activations.LITTLE < crowded[2] < crowded[3] == activations.MUCH
    unknown = replace(problem, microbatch=None, global_batch=None)
    assert activations.computed_again(unknown, shape) == activations.UNKNOWN
    unsaid = replace(problem, layout_stated=False)
    assert activations.computed_again(unsaid, shape) == activations.UNKNOWN


def test_nothing_is_computed_again_by_fused_recipes_that_fit() -> None:
    since = deepseek(chip=make_serving("nvidia-gb300").chip, date=2026.46, pipeline=2, expert=32)
    shape = shape_of("deepseek-v3")
    assert activations.computed_again(since, shape) == 1.0
    assert activations.computed_again(replace(since, date=2026.29), shape) == activations.LITTLE
    crowded = replace(since, microbatch=4.0)
    assert activations.computed_again(crowded, shape) > activations.LITTLE


def test_megatron_trains_deepseek_to_look_one_token_ahead() -> None:
    shape = shape_of("deepseek-v3")
    ahead = shape.looking_ahead()
    assert (ahead.layers, ahead.attention_layers) == (62, 62)
    assert ahead.routed_layers == pytest.approx(59)
    head = 129280 * 7168  # the output head again, a usual layer, 2 widths to 1
    layer = (shape.active - head) / 61
    assert ahead.active - shape.active == pytest.approx(layer + 2 * 7168**2 + head)
    counted = training.flops_per_token(deepseek())
    assert counted > 1.04 * training.flops_per_token(deepseek(software="maxtext"))
    assert counted == pytest.approx(732e12 / 2815, rel=0.005)  # as Megatron-Bridge 26.04 states
    plain = shape_of("llama-3.1-8b")
    assert plain.looking_ahead() == plain


def test_tensor_parallelism_is_waited_for_where_there_are_experts() -> None:
    problem = deepseek(model="qwen3-235b-a22b", shape=shape_of("qwen3-235b-a22b"), tensor=2)
    named = replace(problem, notes=frozenset({"async tp"}))
    inside = problem.chip.link_bytes_s / 2 * link(problem.chip)
    exchanged = 8 * 94 * 4096 * 2 / inside  # a token's sums over two chips, one to the other
    waited = training.terms(problem).seconds["link"] - training.terms(named).seconds["link"]
    assert waited == pytest.approx(training.HIDDEN * exchanged)
    dense = make_training(
        "nvidia-h100-sxm", metric="step_time_s", chips=8, tensor=2,
        software="megatron-bridge", global_batch=64.0, microbatch=1.0,
    )  # fmt: skip
    same = replace(dense, notes=frozenset({"async tp"}))
    assert training.terms(dense).seconds["link"] == training.terms(same).seconds["link"]


def test_latent_attention_compares_more_than_it_sums_up() -> None:
    # 128 + 64 values of a head are compared, 128 summed up.
    assert shape_of("deepseek-v3").head_params == 128 * (192 + 128) / 2
    assert shape_of("llama-3.1-8b").head_params == 32 * 128


@pytest.mark.parametrize(
    ("date", "seq_len", "stated"),
    [(2025.88, 8192.0, 488e12 / 15876), (2026.12, 4096.0, 428e12 / 15754),
     (2026.62, 4096.0, 934e12 / 28672)],
)  # fmt: skip
def test_flops_of_gpt_oss_are_counted_as_megatron_bridge_did(
    date: float, seq_len: float, stated: float
) -> None:
    problem = deepseek(model="gpt-oss-120b", shape=shape_of("gpt-oss-120b"), date=date)
    counted = training.flops_per_token(replace(problem, seq_len=seq_len))
    assert counted == pytest.approx(stated, rel=0.005)
    # Of an estimate that is asked for nothing is left out, whatever the trainer used to count.
    asked = replace(problem, seq_len=seq_len, family=OWN)
    assert training.flops_per_token(asked) == training.flops_per_token(
        replace(asked, software="maxtext")
    )


def test_a_refresh_is_of_the_architecture_it_refreshes() -> None:
    assert make_serving("nvidia-gb300").chip.architecture == "Blackwell"
    assert make_serving("nvidia-gb200").chip.architecture == "Blackwell"
    assert make_serving("tpu-v5e").chip.architecture == "v5e"


def test_a_scan_moves_more_than_a_block() -> None:
    hybrid = make_training(model="nemotron-3-nano", metric="step_time_s")
    shape = shape_of("nemotron-3-nano")
    scans = shape.scan_layers
    moved = training.SCAN_BYTES * scans + training.ACTIVATION_BYTES / 2 * (52 - scans)
    moved += training.ROUTED_BYTES * shape.routed_layers * shape.top_k
    memory_s = training.terms(replace(hybrid, global_batch=None)).seconds["memory"]
    rate = hybrid.chip.hbm_bytes_s * training.STREAM
    assert memory_s == pytest.approx(activations.UNKNOWN * moved * 2688 / rate)


def test_each_chip_carries_the_gradients_of_its_own_experts_across_hosts() -> None:
    shape = shape_of("deepseek-v3")
    problem = deepseek(software="maxtext")  # no launches, same exchange
    tokens = 4096 * 4096 / (256 / 16)  # of one of sixteen copies of a pipeline
    own = shape.experts_total / 8  # on each of eight chips of a host: none shares it
    other = (shape.params - shape.experts_total) / 8  # the same on all eight: each an eighth
    across = 2 * 2 * (own + other) / (0.6 * 50e9) / tokens
    chip = problem.chip
    sent = 4 * 58 * experts.copies_sent(problem, shape) * 7168 * 2
    inside = sent / (chip.link_bytes_s / 2 * link(chip))
    expected = (1 - training.HIDDEN) * (across + inside)
    assert training.terms(problem).seconds["link"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("device", "joined", "nic"),
    [("nvidia-b200-sxm", 8, 50e9), ("nvidia-gb300", 64, 100e9), ("nvidia-l40s", 1, 50e9)],
)
def test_domains_and_what_leaves_them(device: str, joined: int, nic: float) -> None:
    chip = make_serving(device).chip
    assert (chip.joined, chip.nic_bytes_s) == (joined, nic)


def test_attention_is_faster_where_exponentials_are() -> None:
    usual, ultra = (
        training.terms(
            make_training(device, metric="step_time_s", software="nemo", chips=8, remat=False)
        ).seconds["attention"]
        for device in ("nvidia-gb200", "nvidia-gb300")
    )
    assert usual / ultra == pytest.approx(training.EXPONENTIALS)
