"""Shapes of models: the table agrees with what its models are said to weigh."""

from __future__ import annotations

import pytest

from tpubench.suite import decoders
from tpubench.workloads.llama import config as llama


@pytest.mark.parametrize("name", decoders.names())
def test_active_parameters_never_exceed_all(name: str) -> None:
    shape = decoders.find_decoder(name)
    assert shape is not None and shape.known and shape.name == name
    assert 0 < shape.active < 1.06 * shape.params
    assert shape.dense_params > 0


DENSE = [
    n
    for n in decoders.names()
    if (s := decoders.find_decoder(n)) and not s.experts and n != "t5-11b"
]


@pytest.mark.parametrize("name", DENSE)
def test_layers_and_head_add_up_to_the_stated_size(name: str) -> None:
    shape = decoders.find_decoder(name)
    assert shape is not None
    embedding = shape.params - shape.active  # an untied input embedding is not in the products
    assert -0.05 * shape.params < embedding < 0.3 * shape.params


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"])
def test_same_arithmetic_as_the_workload(name: str) -> None:
    shape, config = decoders.find_decoder(name), llama.PRESETS[name]
    assert shape is not None
    assert shape.active == config.n_layers * config.layer_matmul_params + config.head_params
    assert shape.kv_tokens_bytes(1, 2) == config.kv_bytes_per_token(2)
    decode = 2 * shape.active + shape.attention_flops(1, 1000)
    assert decode == pytest.approx(llama.decode_flops(config, 1, 1000))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("LLAMA3_70B (SFT)", "llama-3.1-70b"),
        ("mlperf:llama31_405b", "llama-3.1-405b"),
        ("llama2-70b-99.9", "llama-2-70b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("DeepSeekV3 (w/o MTP)", "deepseek-v3"),
        ("Qwen3_235B_a22B", "qwen3-235b-a22b"),
        ("GPT OSS 120B", "gpt-oss-120b"),
        ("gptj-99", "gpt-j-6b"),
    ],
)
def test_names_as_people_write_them(written: str, meant: str) -> None:
    shape = decoders.find_decoder(written)
    assert shape is not None and shape.name == meant


def test_a_model_outside_the_table_gets_a_shape_of_its_size() -> None:
    shape = decoders.find_decoder("Acme-13B-Chat")
    assert shape is not None and not shape.known
    assert shape.params == 13e9
    assert 12 * shape.layers * shape.d_model**2 == pytest.approx(13e9, rel=0.2)
    sparse = decoders.find_decoder("Acme-100B-A10B")
    assert sparse is not None and sparse.active == 10e9 and sparse.experts > 8
    assert decoders.find_decoder("no size here") is None


def test_a_stated_size_overrules_a_name_that_means_another_model() -> None:
    shape = decoders.find_decoder("llama-3.1-8b", 80e9)
    assert shape is not None and not shape.known and shape.params == 80e9


def test_few_tokens_touch_few_experts_and_many_touch_all() -> None:
    shape = decoders.find_decoder("mixtral-8x7b")
    assert shape is not None
    assert shape.experts_touched(1) == pytest.approx(2 / 8)
    assert shape.weights_read(1000) == pytest.approx(shape.params, rel=0.01)
