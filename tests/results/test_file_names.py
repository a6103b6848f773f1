"""What the names of benchmark files say: chips, parallelism, precision, device."""

from __future__ import annotations

from pathlib import Path

import other_tools as tools
import pytest

from tpubench.results.importers import read_results
from tpubench.results.importers._names import device_in, precision_in, read_name

SHIPPED = Path(__file__).with_name("fixtures") / "imports"


def test_a_file_in_vllms_form_with_inferencexs_name() -> None:
    path = SHIPPED / "gptoss_fp4_h200_tp2_conc64_isl1024_osl1024.json"
    (record,) = read_results("auto", path).records
    assert (record.chips, record.dtype, record.parallelism) == (2, "fp4", "tp=2")
    assert record.device == "h200"
    assert record.stated["from_file_name"] == "h200 fp4 tp=2 2 chips"


@pytest.mark.parametrize(
    ("name", "chips", "dtype", "device"),
    [
        ("dsr1_fp4_b200_tep8_conc4_isl1024_osl1024.json", 8, "fp4", "b200"),
        ("dsr1_fp8_h200_dep8_conc4.json", 8, "fp8", "h200"),
        ("dsr1_1k1k_fp8_sglang_tp8-pp1-ep8-dpafalse_conc64_mi355x-amd_0.json", 8, "fp8", "mi355x"),
        ("kimi_fp4_vllm_tp4-pp2-dcp1-pcp1-ep1-dpafalse_b300_1.json", 8, "fp4", "b300"),
        ("results_concurrency_64_gpus_24_ctx_8_gen_16.json", 24, None, None),
        ("gb300_deepseek-fp4_8k1k_ctx3_dep4_gen1_dep32_mtp3.json", 44, "fp4", "gb300"),
        ("llama_bf16_tpu-v6e-8_tp8.json", 8, "bf16", "tpu-v6e-8"),
        ("a_nvfp4_tp_4.json", 4, "nvfp4", None),
        ("a_mxfp4_dp2.json", 2, "mxfp4", None),
        # Two engines count these differently; prefill and decode have chips of their own.
        ("dsr1_fp8_tp8_dp8.json", None, "fp8", None),
        ("dsr1_fp8_1p2d_tp4.json", None, "fp8", None),
        ("dsr1_ctx1_tp4_fp8.json", None, "fp8", None),
        # Words that only look like it.
        ("conc64_isl1024_http2_step8.json", None, None, None),
        ("model_kv-fp8_bf16_tp1.json", 1, "bf16", None),
        ("serve.json", None, None, None),
    ],
)
def test_what_a_name_says(
    name: str, chips: int | None, dtype: str | None, device: str | None
) -> None:
    said = read_name(name)
    assert (said.chips, said.dtype, said.device) == (chips, dtype, device)


def test_the_fullest_of_a_devices_names_counts_and_two_devices_are_none() -> None:
    assert device_in("GB200-NVL72_GB200-186GB_aarch64x4_TRT") == "gb200-186gb"
    assert device_in("DGX-H100_H100-SXM-80GBx8_TRT") == "h100-sxm-80gb"
    assert device_in("h100-vs-b200") is None
    assert precision_in("nvidia/DeepSeek-R1-FP4") == "fp4"
    assert precision_in("openai/gpt-oss-120b") is None


def test_a_models_name_says_its_precision_where_the_file_does_not(tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, model_id="zai-org/GLM-5-FP8")
    (record,) = read_results("auto", tools.save(tmp_path / "serve.json", document)).records
    assert (record.dtype, record.chips) == ("fp8", None)


@pytest.mark.parametrize(
    ("hardware", "device"),
    [("h100", "h100-sxm"), ("h200-nv", "h200"), ("b200-trt", "b200"), ("mi355x", "mi355x")],
)
def test_inferencexs_runners_are_their_chips(hardware: str, device: str, tmp_path: Path) -> None:
    document = tools.changed(tools.INFERENCEX, hw=hardware)
    (record,) = read_results("auto", tools.save(tmp_path / "agg.json", document)).records
    assert record.device == device
