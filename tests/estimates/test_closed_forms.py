"""The physical model against arithmetic by hand, and what must hold of any hardware."""

from __future__ import annotations

from dataclasses import replace

import pytest
from problems import make_serving, make_training

from tpubench.estimates.regression import model
from tpubench.estimates.roofline import chips, physics, replica, serving, training
from tpubench.estimates.roofline.operators import link, matmul, usual
from tpubench.estimates.roofline.terms import (
    CACHE,
    HOST_LAYER_S,
    HOST_SEQUENCE_S,
    HOST_STEP_S,
    PROGRAM,
    STREAM,
)
from tpubench.suite import decoders


def test_decoding_one_sequence_reads_the_weights_once() -> None:
    step = replica.decode_step(make_serving(), 1.0, 1024.0)
    # 8.03 B parameters of 2 bytes over 3.35 TB/s at 70 %: 6.85 ms
    assert step["weights"] + step["decode"] == pytest.approx(
        2 * 8.03e9 / (3.35e12 * STREAM), rel=0.01
    )
    # 128 KiB of cache a token
    assert step["cache"] == pytest.approx(1024 * 131072 / (3.35e12 * CACHE))
    assert step["host"] == pytest.approx(HOST_STEP_S + 32 * HOST_LAYER_S + HOST_SEQUENCE_S)
    assert step["link"] == 0


def test_a_prompt_costs_two_flops_a_parameter_and_the_causal_half_of_attention() -> None:
    problem = make_serving()
    shape = problem.shape
    work = replica.prefill(problem, 2048.0, 2048.0)
    rate = 989e12 * usual("nvidia-h100-sxm", "bfloat16") * PROGRAM
    assert work["matmul"] == pytest.approx(2 * shape.active * 2048 / rate)
    assert work["attention"] * 0.4 * 989e12 == pytest.approx(4 * 32 * 4096 * 2048 * 2048 / 2)


def test_a_first_token_waits_for_half_of_the_running_step_and_for_its_own() -> None:
    problem = make_serving(kind="server", metric="ttft_s", qps=0.01, batch=None)
    terms = serving.terms(problem)
    step = replica.decode_step(problem, terms.batch, 1000 + 0.5 * 48)
    own = replica.prefill(problem, 1000.0, 1000.0)
    assert terms.batch == 1  # a request every hundred seconds meets no other
    assert terms.total_s == pytest.approx(sum(own.values()) + 1.5 * sum(step.values()), rel=1e-3)


def test_training_flops_of_a_token_by_both_conventions() -> None:
    problem = make_training(metric="flop_s_per_chip")
    shape = problem.shape
    pairs = 12 * 32 * 4096 * 8192
    full = training.flops_per_token(replace(problem, attention="full"))
    causal = training.flops_per_token(problem)
    assert full == 6 * shape.active + pairs
    assert causal == 6 * shape.active + pairs / 2
    adapters = training.flops_per_token(replace(problem, tuning="lora"))
    assert adapters == pytest.approx(causal * 2 / 3)


def test_the_widths_of_a_layers_products_are_weighted_by_their_flops() -> None:
    shape = make_serving().shape  # Llama-3-8B: 4096 wide, 14336 in the gated block
    for tensor in (1, 4):
        products = [(6144 / tensor, 4096), (4096, 4096 / tensor), (28672 / tensor, 4096),
                    (4096, 14336 / tensor)]  # fmt: skip
        flops = sum(n * k for n, k in products)
        per_n, per_k = shape.narrowness(tensor)
        assert per_n == pytest.approx(sum(k for _, k in products) / flops, rel=0.1)
        assert per_k == pytest.approx(sum(n for n, _ in products) / flops, rel=0.1)


def test_narrow_products_lose_more_in_a_narrow_precision() -> None:
    def kept(precision: str) -> float:
        wide, narrow = (1 / 16384, 1 / 16384), (1 / 1024, 1 / 1024)
        chip = "nvidia-h100-sxm"
        return matmul(chip, precision, narrow) / matmul(chip, precision, wide)

    assert kept("fp8") < 0.6 < 0.8 < kept("bfloat16") < 1
    # Not measured: a TPU has no curve, its best measured share stands at all widths.
    assert matmul("tpu-v6e", "bfloat16", (1e-3, 1e-3)) == matmul("tpu-v6e", "bfloat16", (0, 0))


def test_pytorchs_attention_became_faster_with_flashattention_2() -> None:
    def attention_s(software: str, date: float, device: str = "nvidia-a100-sxm-80gb") -> float:
        problem = make_training(device, metric="step_time_s", software=software)
        return training.terms(replace(problem, date=date)).seconds["attention"]

    assert attention_s("llm-foundry", 2023.7) == pytest.approx(2 * attention_s("llm-foundry", 2024))
    assert attention_s("nemo", 2023.7) == attention_s("nemo", 2024)
    assert attention_s("maxtext", 2023.7, "tpu-v5p") == attention_s("maxtext", 2024, "tpu-v5p")


def test_only_asynchronous_tensor_parallelism_hides() -> None:
    def exposed_s(software: str, *notes: str) -> float:
        problem = make_training(
            metric="step_time_s", software=software, chips=64, tensor=8,
            notes=frozenset(notes), layout_stated=True,
        )  # fmt: skip
        return training.terms(problem).seconds["link"]

    hidden, shown = exposed_s("torchtitan", "async tp"), exposed_s("torchtitan", "vanilla tp")
    assert exposed_s("megatron-bridge") == hidden < shown == exposed_s("maxtext")


def test_tokens_sent_to_experts_of_other_hosts_are_waited_for() -> None:
    def exposed_s(device: str, expert: int) -> float:
        problem = make_training(
            device, "qwen3-235b-a22b", metric="step_time_s", chips=256,
            software="megatron-bridge", expert=expert, layout_stated=True, global_batch=2048.0,
        )  # fmt: skip
        return training.terms(problem).seconds["link"]

    assert exposed_s("nvidia-h100-sxm", 32) > 3 * exposed_s("nvidia-h100-sxm", 8)  # 8 on a host
    assert exposed_s("nvidia-gb200", 32) < 2 * exposed_s("nvidia-gb200", 8)  # 72 in a rack


def test_all_metrics_of_one_training_run_say_the_same() -> None:
    problem = make_training(chips=64)
    values = {
        metric: physics.terms(replace(problem, metric=metric)).value()
        for metric in ("train_tok_s_per_chip", "flop_s_per_chip", "mfu", "step_time_s")
    }
    tokens = values["train_tok_s_per_chip"]
    assert values["step_time_s"] == pytest.approx(512 * 8192 / 64 / tokens)
    flops = tokens * training.flops_per_token(problem)
    assert values["flop_s_per_chip"] == pytest.approx(flops)
    assert values["mfu"] == pytest.approx(flops / 989e12)


def test_memory_left_by_the_weights_limits_the_batch() -> None:
    problem = make_serving(kind="offline", batch=None, output_len=1000.0)
    most = replica.most_sequences(problem)
    left = 80e9 * replica.SOLD_AS_GB * replica.MEMORY_SHARE - 2 * 8.03e9
    assert most == pytest.approx(left / (131072 * (1000 + 1000)))  # whole replies reserved
    other = replica.most_sequences(replace(problem, software="vllm"))
    assert other == pytest.approx(left / (131072 * (1000 + 550)))
    large = make_serving(model="llama-3.1-405b", kind="offline", batch=None)
    assert replica.most_sequences(large) == 1


def test_chips_beyond_the_cached_heads_each_keep_a_copy() -> None:
    cache_s = {}
    for tensor in (4, 8):
        problem = make_serving(
            model="qwen3-235b-a22b", kind="offline", precision="fp8", kv_precision="fp8",
            tensor=tensor, chips=tensor, batch=None,
        )  # fmt: skip
        cache_s[tensor] = replica.decode_step(problem, 64.0, 4096.0)["cache"]
    assert cache_s[4] == pytest.approx(cache_s[8])  # four heads: eight chips read no less each


def test_tensor_parallel_exchange_of_a_training_step() -> None:
    problem = make_training(
        metric="step_time_s", software="torchtitan", chips=8, tensor=8,
        microbatch=4.0, global_batch=64.0,
    )  # fmt: skip
    chip = problem.chip
    # A gather or a scatter before and after attention and the block, forward and backward: eight
    # a layer, seven eighths of 4096 values of two bytes leave and reach each of the eight chips.
    moved = 8 * 32 * 4096 * 2 * 7 / 8 * 8
    rate = chip.link_bytes_s / 2 * link(chip)
    assert training.terms(problem).seconds["link"] == pytest.approx(moved / rate)


@pytest.mark.parametrize("tensor", [1, 4])
def test_sharded_weights_are_exchanged_by_every_chip_of_a_replica(tensor: int) -> None:
    problem = make_training(
        "tpu-v5p", model="llama-3.1-70b", metric="step_time_s",
        software="maxtext", chips=64, tensor=tensor, global_batch=256.0,
    )  # fmt: skip
    shape, chip = problem.shape, problem.chip
    replicas = 64 / tensor
    rate = chip.link_bytes_s / 2 * link(chip)
    gathered = 3 * 2 * shape.params * (replicas - 1) / replicas / rate  # of one replica, in all
    hidden = gathered / (256 * 8192 / replicas)
    waited = 8 * 80 * 8192 * 2 * (tensor - 1) / rate
    expected = waited + (1 - training.HIDDEN) * hidden
    assert training.terms(problem).seconds["link"] == pytest.approx(expected, rel=1e-6)


def test_products_of_experts_are_slowed_by_what_they_move() -> None:
    shape = decoders.find_decoder("deepseek-v3")
    assert shape is not None
    moved = (12 * 7168 + 34 * 2048) / (18 * 7168 * 2048)  # bytes a FLOP, forward and backward
    assert shape.experts_speed(590.0) == pytest.approx(1 / (1 + 590 * moved))
    weights = 10.8 / (6 * 1024)  # 10 to 12 bytes a weight, for 6 FLOPs of each token
    assert shape.experts_speed(590.0, 1024.0) == pytest.approx(1 / (1 + 590 * (moved + weights)))
    dense = decoders.find_decoder("llama-3.1-8b")
    assert dense is not None and dense.experts_speed(590.0, 10.0) == 1.0


def test_pipeline_bubble() -> None:
    problem = make_training(
        metric="step_time_s", chips=64, pipeline=8, tensor=8, microbatch=1.0,
        virtual=4, global_batch=128.0,
    )  # fmt: skip
    detail = training.terms(problem).detail
    assert detail is not None and detail["bubble"] == pytest.approx(7 / (4 * 128))


@pytest.mark.parametrize("device", ["tpu-v6e", "nvidia-h100-sxm", "tpu-v5p", "nvidia-b200-sxm"])
@pytest.mark.parametrize("kind", ["decode", "offline", "static", "concurrency", "prefill"])
def test_better_hardware_is_never_slower(device: str, kind: str) -> None:
    metric = "ttft_s" if kind == "prefill" else "output_tok_s"
    problem = make_serving(device, kind=kind, metric=metric, batch=16.0)
    base = model.shipped().predict([problem])[0]
    chip = problem.chip
    for better in (
        replace(chip, hbm_bytes_s=1.3 * chip.hbm_bytes_s),
        replace(chip, peak_flop_s={k: 1.3 * v for k, v in chip.peak_flop_s.items()}),
        replace(chip, hbm_bytes=1.3 * chip.hbm_bytes),
    ):
        prediction = model.shipped().predict([replace(problem, chip=better)])[0]
        ratio = prediction.value / base.value
        assert (ratio if prediction.terms.rate else 1 / ratio) > 0.995


@pytest.mark.parametrize("chips_", [1, 2, 4, 8, 16, 64])
def test_more_chips_make_a_step_shorter(chips_: int) -> None:
    problem = make_training("tpu-v6e", metric="step_time_s", chips=chips_)
    more = replace(problem, chips=2 * chips_)
    one, two = model.shipped().predict([problem, more])
    assert two.value < one.value


def test_no_prediction_beats_the_peak() -> None:
    problem = make_training(metric="mfu", software="maxtext", chips=64)
    assert model.shipped().predict([problem])[0].high <= 1.05 + 1e-6


def test_a_figure_above_the_peak_is_implausible_and_says_so() -> None:
    problem = make_training(metric="flop_s_per_chip")
    assert physics.implausible(problem, 1200e12)
    assert physics.implausible(problem, 500e12) is None
    too_fast = physics.implausible(make_serving(), 1e-3)  # 16 GB of weights in 1 ms
    assert too_fast is not None and "below" in too_fast


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NVIDIA H100-SXM-80GB", "nvidia-h100-sxm"),
        ("TPU v7x (Ironwood)", "tpu-v7"),
        ("AMD Instinct MI300X-NPS1-SPX-192GB-750W", "amd-mi300x"),
        ("NVIDIA GB200 (NVL72)", "nvidia-gb200"),
    ],
)
def test_devices_as_tables_write_them(written: str, meant: str) -> None:
    chip = chips.resolve(written)
    assert chip is not None and chip.name == meant and chip.assumed is None


def test_a_variant_left_open_is_marked_and_a_figure_in_the_name_counts() -> None:
    chip = chips.resolve("NVIDIA A100")
    assert chip is not None and chip.assumed
    teton = chips.resolve("NVIDIA H100 96GB HBM2e 2.4TB/s 500W (Grand Teton)")
    assert teton is not None and teton.hbm_bytes_s == 2.4e12
    assert teton.peak("bfloat16") == pytest.approx(989e12 * (500 / 700) ** 0.5)
    assert chips.resolve("Some Accelerator 9000") is None


def test_requests_sent_at_once_are_worked_off_and_the_longest_replies_end_alone() -> None:
    problem = make_serving(
        kind="server", metric="output_tok_s", qps=None, batch=None, output_len=200.0
    )
    terms = serving.terms(problem)
    request = serving.terms(replace(problem, kind="offline", batch=serving.REQUESTS))
    alone = sum(replica.decode_step(problem, 1.0, 1000 + 100).values())
    tail = (serving.TAIL - 1) * 200 / serving.REQUESTS * alone
    assert terms.total_s == pytest.approx(request.total_s + tail)
    cut = replace(problem, output_len=256.0)  # a length at which replies are cut: no tail
    request = serving.terms(replace(cut, kind="offline", batch=serving.REQUESTS))
    assert serving.terms(cut).total_s == pytest.approx(request.total_s)


def test_a_slow_flow_is_bound_by_its_arrivals() -> None:
    problem = make_serving(kind="server", metric="output_tok_s", qps=0.5, batch=None)
    terms = serving.terms(problem)
    assert terms.shares()["arrival"] > 0.99 and terms.bound == "request rate"
    assert terms.value() == pytest.approx(0.5 * 48, rel=0.01)


def test_early_tensorrt_llm_reads_a_cached_head_for_every_two_query_heads() -> None:
    grouped = make_serving(model="llama-3.1-70b", tensor=8, chips=8)
    before = replace(grouped, software="gptsession")
    now, then = (replica.decode_step(p, 8.0, 4096.0)["cache"] for p in (grouped, before))
    assert then == pytest.approx(64 / 8 / 2 * now)
    alone = make_serving(model="gpt-j-6b", software="gptsession")
    assert replica.decode_step(alone, 8.0, 4096.0)["cache"] == pytest.approx(
        replica.decode_step(replace(alone, software="trtllm"), 8.0, 4096.0)["cache"]
    )


def test_first_tokens_of_a_closed_loop_wait_for_the_first_wave_and_little_after() -> None:
    problem = make_serving(
        kind="concurrency", metric="ttft_s", batch=16.0, requests=64.0, output_len=1000.0
    )
    own = replica.prefill(problem, 1000.0, 1000.0)
    step = sum(replica.decode_step(problem, 16.0, 1000 + 500).values())
    own_s = sum(own.values())
    load = 16 * own_s / (16 * own_s + 1000 * step)
    prompts = 0.25 * (16 + 1) / 2 + 0.75 * (1 + load / (1 - load) / 2)
    assert serving.terms(problem).total_s == pytest.approx(prompts * own_s + step)
    unsaid = replace(problem, requests=None)  # ten for each in flight
    assert serving.terms(unsaid).total_s == pytest.approx(
        serving.terms(replace(problem, requests=160.0)).total_s
    )
    alone = replace(problem, batch=1.0, requests=None)
    assert serving.terms(alone).total_s < serving.terms(unsaid).total_s


def test_one_token_replies_wait_for_all_others() -> None:
    problem = make_serving(
        kind="concurrency", metric="ttft_s", batch=16.0, requests=48.0, notes=frozenset({"burst"})
    )
    own = sum(replica.prefill(problem, 1000.0, 1000.0).values())
    step = sum(replica.decode_step(problem, 16.0, 1000 + 24).values())
    prompts = (16 + 1) / 2 / 3 + 16 * 2 / 3
    assert serving.terms(problem).total_s == pytest.approx(prompts * own + step)
