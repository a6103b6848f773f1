"""A workload that somebody else wrote is estimated and compiled, with no edit anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stranger
from command_line import Call, caller

from tpubench.devices.sheets import device
from tpubench.suite import registry

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "TPUBENCH_TEST_TPU_PYTHON"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    site = stranger.install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT / '.import'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    registry.forget()
    yield caller(monkeypatch, capfd)
    monkeypatch.undo()
    registry.forget()


def rows_of(out: str) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in json.loads(out)["rows"]}


def test_a_decoder_is_estimated_by_what_others_like_it_did(call: Call) -> None:
    asked = ("estimate", "-w", "acme-chat", "--device", "v6e", "--chips", "4", "--json")
    code, out, err = call(*asked)
    assert code == 0, err
    rows = rows_of(out)
    assert {"ttft_s", "tpot_s", "output_tok_s"} <= set(rows)
    for row in rows.values():
        assert (row["workload"], row["preset"]) == ("acme-chat", "acme-9b")
        assert (row["params"]["batch"], row["params"]["input_len"]) == (4, 512)
    # 9 B parameters of two bytes are read for each token, on four chips.
    least = 2 * 9e9 / 4 / float(device("tpu-v6e").hbm_bytes_s or 0)
    assert least < rows["tpot_s"]["value"] < 4 * least
    assert rows["tpot_s"]["parallelism"] == "tp=4"


def test_any_other_program_is_estimated_by_the_work_that_it_states(
    call: Call, tmp_path: Path
) -> None:
    store = tmp_path / "kept"
    code, out, err = call(
        "estimate", "-w", "acme-mixer", "--device", "h100-sxm", "--set", "rows=65536",
        "--store", str(store), "--json",
    )  # fmt: skip
    assert code == 0, err
    rows = rows_of(out)
    flops = 2 * 4 * 65536 * 1024 * 1024
    least = flops / float(device("nvidia-h100-sxm").peak_flop_s["bfloat16"])
    time = rows["step_time_s"]
    assert least < time["value"] < 3 * least
    estimate = time["environment"]["estimate"]
    assert estimate["bound"] == "compute"
    assert (
        estimate["high_90"] / time["value"]
        == pytest.approx(2)
        == time["value"] / estimate["low_90"]
    )
    assert rows["images_mixed_s"]["value"] == pytest.approx(65536 / time["value"])
    assert rows["images_mixed_s"]["environment"]["metric"]["formula"] == "images ÷ window"
    assert "plain roofline" in " ".join(json.loads(out)["notes"])
    assert call("verify", "--store", str(store))[0] == 0


def test_a_program_of_one_chip_is_not_spread(call: Call) -> None:
    code, _, err = call("estimate", "-w", "acme-mixer", "--device", "v6e", "--chips", "2")
    assert code == 2 and "acme-mixer runs on one chip" in err


@pytest.mark.parametrize("links", ["h2d", "collective"])
def test_what_moves_over_links_is_not_held_against_the_memory(call: Call, links: str) -> None:
    code, out, err = call("estimate", "-w", links, "--device", "v6e")
    assert (code, out) == (2, "") and f"{links} measures links" in err


def test_it_is_compiled_by_the_tpu_compiler(call: Call) -> None:
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} is not set: make test builds that environment")
    code, out, err = call(
        "compile", "-w", "acme-mixer", "--device", "v6e", "--python", python, "--json"
    )
    assert code == 0, err
    rows = rows_of(out)
    assert rows["step_time_s"]["evidence"] == "compiled"
    assert rows["images_mixed_s"]["value"] == pytest.approx(4096 / rows["step_time_s"]["value"])
    # Four products of 4096 x 1024 x 1024 take 37 us at the peak.
    assert 3e-5 < rows["step_time_s"]["value"] < 3e-4


def test_the_old_spelling_of_compile_still_compiles(call: Call) -> None:
    code, _, err = call("estimate", "--method", "compile", "-w", "acme-mixer", "--device", "h100")
    assert code == 2 and "tpubench compile knows v4" in err
