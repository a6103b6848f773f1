"""Speculative decoding: tokens of plain greedy decoding, and the work that was stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import random_model, reference_greedy

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.workload import Case, Device, Timed, Weights
from tpubench.workloads._checkpoint import read_config
from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.model import KVCache
from tpubench.workloads.llama.step import LlamaStep
from tpubench.workloads.llama_speculate import DRAFTS, LlamaSpeculate, arithmetic, kept
from tpubench.workloads.llama_speculate.acceptance import expected_kept, pinned
from tpubench.workloads.llama_speculate.step import FIRST_LAYERS, SpeculativeStep

HOST = Device(torch_device="cpu")


def case(**settings: int | str) -> Case:
    workload = registry.workload("llama-speculate")
    sizes = {"batch": 1, "input_len": 12, "output_len": 24, "dtype": "float32", **settings}
    (case,) = workload.cases("tiny", {key: [str(value)] for key, value in sizes.items()})
    return workload.prepare(case, Weights())


def built(case: Case, path: Path | None = None) -> SpeculativeStep:
    step = registry.workload("llama-speculate").build(case, HOST, Weights(path=path))
    assert isinstance(step, SpeculativeStep)
    return step


def agreeing(case: Case) -> Case:
    """The case with a draft that is often right: the target's own first layers."""
    return replace(case, params={**case.params, "draft": FIRST_LAYERS})


@pytest.mark.parametrize("draft_tokens", [1, 3, 6])
@pytest.mark.parametrize("batch", [1, 2])
def test_verified_tokens_are_those_of_plain_greedy_decoding(batch: int, draft_tokens: int) -> None:
    sizes = {"batch": batch, "input_len": 12, "output_len": 48, "dtype": "float32"}
    shape = replace(PRESETS["tiny"], n_layers=4, tied=False).to_json()
    small_case = replace(agreeing(case(**sizes, draft_tokens=draft_tokens)), shape=shape)
    step = built(small_case)
    step.run_verified()
    lengths = [done.kept for done in step.rounds]
    assert max(lengths) > 0 and min(lengths[:-1]) < draft_tokens, "some kept, and some refused"
    plain = registry.workload("llama-infer")
    (single,) = plain.cases("tiny", {key: [str(value)] for key, value in sizes.items()})
    greedy = plain.build(replace(single, shape=shape), HOST, Weights())
    assert isinstance(greedy, LlamaStep)
    greedy.run(lambda *_: None)
    assert torch.equal(step.prompt_BL, greedy.prompt_BL)
    assert torch.equal(step.tokens(), torch.cat(greedy.tokens, dim=1))


def test_they_are_those_of_transformers_with_and_without_an_assistant(tmp_path: Path) -> None:
    layers, new = 3, 40
    model = random_model(num_hidden_layers=layers, vocab_size=64)
    with torch.no_grad():  # a last layer that changes little: its absence is often not noticed
        model.model.layers[-1].self_attn.o_proj.weight.mul_(0.2)
        model.model.layers[-1].mlp.down_proj.weight.mul_(0.2)
    model.save_pretrained(tmp_path)
    small_case = case(output_len=new, draft_tokens=3)
    small_case = replace(agreeing(small_case), shape=read_config(tmp_path).to_json())
    step = built(small_case, tmp_path)
    step.run_verified()
    assert {0, 3} <= {done.kept for done in step.rounds}, "rounds that kept nothing, and all"

    prompt = step.prompt_BL[0].tolist()
    assert step.generated() == reference_greedy(model, prompt, new)[0]
    assistant = random_model(num_hidden_layers=layers - 1, vocab_size=64)
    assistant.load_state_dict(model.state_dict(), strict=False)
    assistant.generation_config.num_assistant_tokens = 3
    assistant.generation_config.num_assistant_tokens_schedule = "constant"
    assistant.generation_config.assistant_confidence_threshold = 0.0
    answer = model.generate(
        step.prompt_BL,
        attention_mask=torch.ones_like(step.prompt_BL),
        assistant_model=assistant,
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    assert step.generated() == answer[0, len(prompt) :].tolist()


@pytest.mark.parametrize("draft", ["tiny-draft", "none"])
def test_refused_proposals_leave_nothing_in_the_caches(draft: str) -> None:
    """After a pass both caches hold what a prefill of the kept tokens would have written."""
    step = built(case(batch=2, draft=draft))
    step.run(lambda *_: None)
    assert {done.kept for done in step.rounds} > {0, 4}
    ids = torch.cat((step.prompt_BL, step.tokens()), dim=1)
    filled = step.rounds[-1].spot.position + 1
    models = zip((step.pair.target, step.pair.draft), step.caches(), strict=False)
    for model, cache in models:
        assert model is not None
        clean = KVCache(model.config, 2, cache.capacity, torch.float32)
        with torch.no_grad():
            model(ids[:, :filled], torch.arange(filled), clean, filled)
        for buffer, expected in zip(cache.buffers(), clean.buffers(), strict=True):
            torch.testing.assert_close(buffer[:, :, :filled], expected[:, :, :filled])


def test_what_is_kept_is_the_drafts_own_and_then_the_targets() -> None:
    step = built(case(batch=2, draft="tiny-draft"))
    step.run(lambda *_: None)
    assert [done.kept for done in step.rounds] == list(kept(case(draft="tiny-draft")))
    assert step.tokens().shape == (2, 24)
    assert not any(int(done.agreed.max()) for done in step.rounds), "random weights do not agree"
    for before, after in zip(step.rounds, step.rounds[1:], strict=False):
        assert torch.equal(before.given()[:, before.kept], after.before[:, 0])
        assert torch.equal(before.verified[:, before.kept], after.before[:, 1])


@pytest.mark.parametrize("percent", [0, 40, 70, 85, 100])
@pytest.mark.parametrize("draft_tokens", [1, 4, 8])
def test_the_pinned_lengths_have_the_stated_mean(percent: int, draft_tokens: int) -> None:
    alpha = percent / 100
    lengths = pinned(alpha, draft_tokens, 4000, seed=3)
    assert sum(length + 1 for length in lengths) == 4000
    assert min(lengths) >= 0 and max(lengths) <= draft_tokens
    mean = sum(length + 1 for length in lengths[:-1]) / (len(lengths) - 1)
    assert mean == pytest.approx(expected_kept(alpha, draft_tokens), rel=0.01)
    if 0 < alpha < 1:
        closed = (1 - alpha ** (draft_tokens + 1)) / (1 - alpha)
        assert expected_kept(alpha, draft_tokens) == pytest.approx(closed)
    short = lengths[:40]
    assert sum(length + 1 for length in short) / 40 == pytest.approx(mean, rel=0.1), (
        "from the start"
    )


@pytest.mark.parametrize("new_tokens", range(1, 40))
def test_the_last_round_refuses_something(new_tokens: int) -> None:
    """The checks look at all that it verified, and only a refused proposal shows that it did."""
    assert pinned(0.7, 4, new_tokens, seed=0)[-1] < 4
    assert sum(pinned(1.0, 4, new_tokens, seed=0)) + len(pinned(1.0, 4, new_tokens, seed=0)) == (
        new_tokens
    )


def test_the_pinned_lengths_follow_from_the_case_alone() -> None:
    # Written down: another order would be other work under the same name.
    assert kept(case(output_len=33)) == (2, 4, 1, 3, 0, 1, 4, 0, 2, 4, 0)
    assert kept(case(output_len=33, seed=1)) != kept(case(output_len=33))
    for word in ("draft=tiny-draft", "draft_tokens=4", "acceptance_percent=70"):
        assert word in case().label()


@pytest.mark.parametrize(
    "settings",
    [
        {"output_len": 2},
        {"input_len": 1},
        {"draft_tokens": 1},
        {"acceptance_percent": 0},
        {"acceptance_percent": 100},
        {"draft": "none", "output_len": 3},
    ],
    ids=str,
)
def test_the_ends_of_each_setting(settings: dict[str, int | str]) -> None:
    small_case = case(**settings)
    step = built(small_case)
    step.run(lambda *_: None)
    assert step.tokens().shape == (1, small_case.number("output_len"))
    assert len(step.marks) == 1 + len(step.rounds)


def test_every_position_is_counted_kept_or_refused() -> None:
    workload = registry.workload("llama-speculate")
    assert isinstance(workload, LlamaSpeculate)
    small_case = case(batch=2, draft="tiny-draft")
    target, draft = PRESETS["tiny"], DRAFTS["tiny-draft"]
    counted = workload.count(small_case)
    capacity = 12 + 24 + 4
    for name, config, tokens, logits in (
        ("verify_flops", target, 5, 5),
        ("draft_flops", draft, 2, 1),
    ):
        decoder = config.decoder
        # torch counts attention as if every token saw all slots.
        closed = decoder.products_flops(2 * tokens, 2 * logits)
        closed += 2 * decoder.attention_flops(tokens, capacity)
        assert counted[name] == pytest.approx(closed, rel=0.01)
    all_kept, none_kept = (
        workload.work(case(draft="tiny-draft", acceptance_percent=percent)).phases["decode"]
        for percent in (100, 0)
    )
    assert all_kept.items == none_kept.items == 23, "tokens counted are those kept"
    assert none_kept.flops > 4 * all_kept.flops
    one = arithmetic.pass_flops(target, 1, 12, 5, 5)
    assert one == sum(arithmetic.pass_flops(target, 1, 12 + index, 1, 1) for index in range(5))


def test_its_metrics_count_kept_tokens() -> None:
    workload, small_case = registry.workload("llama-speculate"), case(batch=2)
    rounds = len(kept(small_case))

    def timed(*laps: float) -> Timed:
        marks = ("prefill", *["decode"] * (len(laps) - 1))
        return Timed(marks=marks, laps_s=[list(laps)], wall_s=sum(laps), passes=1, how="events")

    windows = {"pass": timed(1.0, *[0.5] * rounds), "prefill": timed(0.8), "ttft": timed(0.9)}
    samples = workload.measure(small_case, windows).samples
    assert samples["output_tok_s"] == [pytest.approx(2 * 24 / (1 + 0.5 * rounds))]
    assert samples["decode_tok_s"] == [pytest.approx(2 * 23 / (0.5 * rounds))]
    assert samples["tpot_s"] == [pytest.approx(0.5 * rounds / 23)]
    assert samples["prefill_tok_s"] == [pytest.approx(2 * 12 / 0.8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draft": "llama-3.2-1b"}, "has 128256 tokens, tiny has 256: a draft of it is tiny-draft"),
        ({"acceptance_percent": 101}, "acceptance_percent is above 100"),
        ({"input_len": 2040, "output_len": 8}, "= 2052 is longer than the 2048 tokens"),
        ({"output_len": 1}, "output_len=1 is below 2"),
        ({"draft": "gpt-2"}, "draft='gpt-2' is not one of none, llama-3.2-1b"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings: dict[str, int | str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        case(**settings)


@pytest.mark.parametrize("accelerator", [False, True])
def test_every_preset_has_a_draft_of_its_vocabulary(accelerator: bool) -> None:
    workload = registry.workload("llama-speculate")
    for preset in workload.presets:
        for case in workload.cases(preset, {}, accelerator=accelerator):
            workload.prepare(case, Weights())
