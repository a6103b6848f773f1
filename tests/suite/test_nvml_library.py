"""NVML through nvidia-ml-py itself, loaded from a library that answers as scripted.

Nothing of ours stands between: the real package loads a real shared object, whose answers are those
of a sandboxed container (no driver files), an older driver, a GPU that is lost, odd names. What a
GPU's own driver answers only a GPU can show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "gpu_host" / "nvml.c"
UUID = "GPU-a0a1a2a3-0000-4000-8000-000000000001"
H200 = {
    "nvmlSystemGetDriverVersion": "0 580.159.03",
    "nvmlDeviceGetName": "0 NVIDIA H200",
    "nvmlDeviceGetUUID": f"0 {UUID}",
    "nvmlDeviceGetMigMode": "0 0",
    "nvmlDeviceGetComputeMode": "0 0",
    "nvmlDeviceGetPowerManagementLimit": "0 700000",
    "nvmlDeviceGetPowerUsage": "0 420000",
    "nvmlDeviceGetMaxClockInfo": "0 1980",
    "nvmlDeviceGetClockInfo": "0 1755",
    "nvmlDeviceGetTemperature": "0 51",
    "nvmlDeviceGetTotalEnergyConsumption": "0 900000",
    "nvmlDeviceGetCurrentClocksEventReasons": "0 4",
    "nvmlDeviceGetFieldValues": "0 74=5000 269=0",
}
NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, VERSION_MISMATCH = "3", "9", "15", "18"

EVERYTHING = """
import json, sys
from pathlib import Path
from tpubench.suite.backends import _gpus, _nvml
from tpubench.suite.backends.cuda import Cuda
_nvml.SHORTEST_S = 0.0
nowhere = Path("/nowhere")
script = Path(__import__("os").environ["NVML_SCRIPT"])
gpus = _gpus.present(nowhere, nowhere)
said = {"gpus": [[gpu.name, gpu.uuid] for gpu in gpus], "one_process": Cuda().one_process()}
nvml = _nvml.library()
if nvml is not None and gpus:
    board = _nvml.board(nvml, gpus[0].uuid.removeprefix("gpu-"))
    said |= {"known": board.handle is not None, "mig": board.mig}
    if board.handle is not None:
        said["settings"] = _nvml.describe(nvml, board.handle)
        meter = _nvml.BoardMeter(nvml, [board.handle])
        meter.start()
        if len(sys.argv) > 1:
            script.write_text(sys.argv[1])
        energy = meter.stop()
        said |= {"joules": energy.joules, "method": energy.method, "reason": energy.reason}
        said |= {"slowed_s": dict(energy.slowed_s), "at_end": dict(energy.at_end)}
print(json.dumps(said))
"""


@pytest.fixture(scope="module", params=["", "-DOLDER"], ids=["driver", "older driver"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *request.param.split()]
    subprocess.run([*command, "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


def older(library: Path) -> bool:
    return b"nvmlDeviceGetMigMode" not in (library / "libnvidia-ml.so.1").read_bytes()


def lines(answers: dict[str, str]) -> str:
    return "".join(f"{name} {answer}\n" for name, answer in answers.items())


def environment(library: Path, script: Path) -> dict[str, str]:
    cleaned = {k: v for k, v in os.environ.items() if not k.endswith("_VISIBLE_DEVICES")}
    return {**cleaned, "LD_LIBRARY_PATH": str(library), "NVML_SCRIPT": str(script)}


def ask(library: Path, tmp_path: Path, answers: dict[str, str], *later: str) -> Any:
    script = tmp_path / "script"
    script.write_bytes(lines(answers).encode("utf-8", "surrogateescape"))
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING, *later],
        env=environment(library, script),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_gpu_is_counted_where_the_driver_has_no_files(library: Path, tmp_path: Path) -> None:
    assert ask(library, tmp_path, H200)["gpus"] == [["NVIDIA H200", UUID.lower()]]


def test_nothing_is_counted_where_the_driver_is_not_there(library: Path, tmp_path: Path) -> None:
    for code in (DRIVER_NOT_LOADED, VERSION_MISMATCH):
        assert ask(library, tmp_path, {**H200, "nvmlInitWithFlags": code})["gpus"] == []


@pytest.mark.parametrize("name", [NOT_SUPPORTED, "0 \udcff\udcfeH200", "0 "])
def test_a_gpu_without_a_readable_name_is_unnamed(library: Path, tmp_path: Path, name: str) -> None:
    said = ask(library, tmp_path, {**H200, "nvmlDeviceGetName": name})
    assert said["gpus"] == [["unnamed GPU", UUID.lower()]]
    assert said["known"]


def test_what_a_driver_tells_is_said_and_what_it_does_not_is_none(
    library: Path, tmp_path: Path
) -> None:
    said = ask(library, tmp_path, H200)
    assert said["settings"] == {
        "driver": "580.159.03",
        "power_limit_w": 700.0,
        "max_sm_clock_mhz": 1980,
        "max_memory_clock_mhz": 1980,
        "mig": False,
    }
    assert said["at_end"]["power_w"] == 420.0 and said["at_end"]["temperature_c"] == 51
    assert said["at_end"]["event_reasons"] == (None if older(library) else 4)
    assert said["slowed_s"] == ({} if older(library) else {"power cap": 0.0, "thermal": 0.0})
    # An older driver has no counter of energy: then its power is sampled.
    assert said["method"] == ("power, integrated" if older(library) else "energy counter")


def test_a_driver_that_refuses_everything_costs_the_energy_alone(
    library: Path, tmp_path: Path
) -> None:
    said = ask(library, tmp_path, {"nvmlDeviceGetUUID": f"0 {UUID}"})
    assert said["gpus"] == [["unnamed GPU", UUID.lower()]]
    assert set(said["settings"].values()) == {None, False}
    assert set(said["at_end"].values()) == {None}
    assert said["joules"] is None and said["reason"].startswith("NVML: ")


def test_a_gpu_that_is_lost_meanwhile_has_no_energy_and_one_line_says_so(
    library: Path, tmp_path: Path
) -> None:
    lost = dict.fromkeys(H200, GPU_IS_LOST)
    said = ask(library, tmp_path, H200, lines(lost))
    assert said["joules"] is None or older(library)  # the samples before it was lost stand
    assert set(said["at_end"].values()) == {None}
    if not older(library):
        assert said["reason"] == "NVML: GPU is lost"


def test_a_gpu_that_is_lost_before_is_not_held(library: Path, tmp_path: Path) -> None:
    said = ask(library, tmp_path, {**H200, "nvmlDeviceGetHandleByUUID": GPU_IS_LOST})
    assert not said["known"]


@pytest.mark.parametrize(("mode", "alone"), [("0", False), ("1", True), ("3", True), ("2", False)])
def test_a_mode_that_admits_one_process_is_said(
    library: Path, tmp_path: Path, mode: str, alone: bool
) -> None:
    said = ask(library, tmp_path, {**H200, "nvmlDeviceGetComputeMode": f"0 {mode}"})
    assert (said["one_process"] is not None) == alone


def test_a_gpu_cut_into_slices_is_known_for_one(library: Path, tmp_path: Path) -> None:
    said = ask(library, tmp_path, {**H200, "nvmlDeviceGetMigMode": "0 1"})
    assert said["mig"] != older(library)


def test_doctor_sees_the_gpu_in_a_container_without_the_drivers_files(
    library: Path, tmp_path: Path
) -> None:
    if Path("/proc/driver/nvidia/gpus").exists():
        pytest.skip("the driver's files are here")
    script = tmp_path / "script"
    script.write_text(lines(H200))
    done = subprocess.run(
        [sys.executable, "-m", "tpubench.cli", "doctor", "--json"],
        env={**environment(library, script), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (cuda,) = (one for one in json.loads(done.stdout)["findings"] if one["backend"] == "cuda")
    assert "no GPU under the Nvidia driver" not in cuda["detail"], cuda


def test_device_nodes_are_counted_where_no_library_is(tmp_path: Path) -> None:
    from tpubench.suite.backends import _gpus

    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert [gpu.name for gpu in _gpus.present(tmp_path, tmp_path)] == ["unnamed GPU"] * 2
