"""Which GPUs a run may use: the driver's files, the variables that hide some, slices, owners.

No GPU is at hand: the driver's files are written here, NVML and torch.cuda are scripted at the
calls that the backend makes. What it shows is what is decided, not that a GPU answers so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from tpubench.errors import RunFailedError
from tpubench.suite import registry
from tpubench.suite import run as suite_run
from tpubench.suite.backends import _dynamo, _gpus, _graphs, _nvml
from tpubench.suite.backends.cuda import Cuda
from tpubench.suite.duets.duet import design_for, too_large
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.launch import why_it_ended
from tpubench.suite.request import Request
from tpubench.suite.workload import Device, Weights

UUIDS = [f"GPU-{letter * 8}-0000-4000-8000-00000000000{i}" for i, letter in enumerate("abcd")]
FOUR = [_gpus.Gpu(name="NVIDIA H100 80GB HBM3", uuid=uuid.lower()) for uuid in UUIDS]


def driver(folder: Path, count: int) -> Path:
    for number in range(count):
        place = folder / "gpus" / f"0000:{number:02x}:00.0"
        place.mkdir(parents=True)
        (place / "information").write_text(
            f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\nGPU UUID: \t {UUIDS[number]}\n"
        )
    return folder


def test_gpus_are_read_from_the_drivers_files(tmp_path: Path) -> None:
    assert _gpus.present(driver(tmp_path, 2)) == FOUR[:2]
    assert _gpus.present(tmp_path / "none", tmp_path) == []


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 3", [1, 3]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,9,0", [1]),  # what follows an unknown entry is not seen
        ("1,-1,0", [1]),
        ("1,1", []),  # twice the same: none
        ("1gpu", [1]),  # read as C reads a number
        (UUIDS[2], [2]),
        (f"{UUIDS[3]},{UUIDS[0]}", [3, 0]),
        ("GPU-bbbb", [1]),
        ("gpu-bbbb", [1]),
        ("GPU-", []),  # the beginning of all
        ("GPU-ffff", []),
    ],
)
def test_cudas_variable_is_read_as_cuda_reads_it(value: str, seen: list[int]) -> None:
    visible = _gpus.visible(FOUR, {"CUDA_VISIBLE_DEVICES": value})
    assert visible.gpus == [FOUR[index] for index in seen]


@pytest.mark.parametrize("value", ["0,1", "1,0", "3", "", "-1", "1,1", "0,-1,1"])
def test_numbers_mean_what_torch_takes_them_for(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    theirs = torch.cuda._parse_visible_devices()
    ours = _gpus.visible(FOUR, {"CUDA_VISIBLE_DEVICES": value})
    assert [FOUR[int(index)] for index in theirs] == ours.gpus


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, [0, 1, 2, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, [0, 1, 2, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, []),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, []),
        ({"NVIDIA_VISIBLE_DEVICES": "2,3"}, [2, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": UUIDS[1]}, [1]),
        # The container's runtime has hidden the others: the numbers are the host's.
        ({"NVIDIA_VISIBLE_DEVICES": "4,5,6,7"}, [0, 1, 2, 3]),
        ({"NVIDIA_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "1"}, [3]),
    ],
)
def test_the_containers_variable_comes_first(
    environment: Mapping[str, str], seen: list[int], tmp_path: Path
) -> None:
    visible = _gpus.visible(FOUR, environment, nodes=tmp_path)
    assert visible.gpus == [FOUR[index] for index in seen]


@pytest.mark.parametrize("value", ["void", "none"])
def test_gpus_whose_nodes_another_than_the_runtime_brought_are_seen(
    value: str, tmp_path: Path
) -> None:
    """As Kubernetes does by CDI, which sets the variable so that nothing is brought twice."""
    (tmp_path / "nvidia0").touch()
    visible = _gpus.visible(FOUR[:1], {"NVIDIA_VISIBLE_DEVICES": value}, nodes=tmp_path)
    assert (visible.gpus, visible.hidden_by) == (FOUR[:1], None)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A machine with four GPUs under the driver, and a torch that is built for CUDA."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(_gpus, "present", lambda: FOUR)
    monkeypatch.setattr(Interpreter, "versions", lambda self, names: {"torch": "2.13.0+cu130"})
    backend = registry.backend("cuda")
    assert isinstance(backend, Cuda)
    return backend


def test_a_probe_counts_what_can_be_seen(four_gpus: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "4 × NVIDIA H100" in four_gpus.probe().detail
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert "2 of 4 (CUDA_VISIBLE_DEVICES=1,2) × NVIDIA H100" in four_gpus.probe().detail
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    probed = four_gpus.probe()
    assert not probed.available and "hides all 4 GPUs" in probed.detail


def test_a_mig_slice_is_refused_before_anything_runs(
    four_gpus: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c7b10d2b-0000-4000-8000-000000000001")
    with pytest.raises(RunFailedError, match=r"MIG-c7b10d2b.* is a MIG slice") as error:
        suite_run.choose_backend("cuda")
    assert error.value.exit_code == 5


def test_more_chips_than_can_be_seen_are_refused(
    four_gpus: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    request = Request(workload="llama-infer", backend="cuda", preset="tiny", chips=4)
    with pytest.raises(RunFailedError, match="--chips 4: 2 chips of cuda can be seen") as error:
        suite_run.make_plan(request)
    assert error.value.exit_code == 5
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert suite_run.make_plan(request).chips == 4


class NVMLError(Exception):
    pass


def nvml(boards: Mapping[str, str], *, mig: bool = False, compute_mode: int = 0) -> Any:
    """NVML that knows these UUIDs."""

    def by_uuid(uuid: str) -> str:
        if uuid.lower() not in boards:
            raise NVMLError("Not Found")
        return boards[uuid.lower()]

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_COMPUTEMODE_EXCLUSIVE_THREAD=pynvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD,
        NVML_COMPUTEMODE_EXCLUSIVE_PROCESS=pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetMigMode=lambda handle: [int(mig), int(mig)],
        nvmlDeviceGetComputeMode=lambda handle: compute_mode,
    )


WHOLE = {UUIDS[0].lower(): "board"}


def test_a_board_is_known_by_the_uuid_that_torch_gives() -> None:
    uuid = UUIDS[0].removeprefix("GPU-")
    assert _nvml.board(nvml(WHOLE), uuid) == _nvml.Board(handle="board")
    assert _nvml.board(nvml({}), uuid) == _nvml.Board()


def test_a_slice_is_known_by_its_uuid_and_by_its_boards_mode() -> None:
    uuid = UUIDS[0].removeprefix("GPU-")
    assert _nvml.board(nvml({f"mig-{uuid}".lower(): "slice"}), uuid).mig
    assert _nvml.board(nvml(WHOLE, mig=True), uuid).mig


def cuda_device(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """torch.cuda with one device, up to the first tensor on it."""
    properties = SimpleNamespace(name=name, uuid=UUIDS[0].removeprefix("GPU-"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)


@pytest.mark.parametrize(
    ("name", "driver_says"),
    [
        ("NVIDIA H100 80GB HBM3", nvml(WHOLE, mig=True)),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", nvml({})),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
    ],
)
def test_a_slice_is_never_opened_nor_charged_the_boards_joules(
    name: str, driver_says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_device(monkeypatch, name)
    monkeypatch.setattr(_nvml, "library", lambda: driver_says)
    backend = Cuda()
    with pytest.raises(RunFailedError, match="is a MIG slice") as error:
        backend.open("eager")
    assert backend.power_meter() is None
    assert len(str(error.value).splitlines()) == 1 and error.value.exit_code == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before"
            " calling NumCudaDevices() that might have already set an error?"
            " Error 802: system not yet initialized",
            "system not yet initialized",
        ),
        ("No CUDA GPUs are available", "No CUDA GPUs are available"),
    ],
)
def test_a_gpu_that_torch_calls_unusable_says_why_in_torchs_words(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are torch 2.11's own, as ``benchmarks/gpu_host.py`` has it say them."""

    def init() -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(RunFailedError) as error:
        Cuda().open("eager")
    assert str(error.value) == f"cuda cannot run: CUDA 13.0 finds no usable GPU: {said}"


@pytest.mark.parametrize(
    ("mode", "design"),
    [
        (pynvml.NVML_COMPUTEMODE_DEFAULT, "duet"),
        (pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, "runs"),
    ],
)
def test_a_duet_on_an_exclusive_gpu_becomes_runs(
    four_gpus: Cuda, monkeypatch: pytest.MonkeyPatch, mode: int, design: str
) -> None:
    boards = {uuid.lower(): uuid for uuid in UUIDS}
    monkeypatch.setattr(_nvml, "library", lambda: nvml(boards, compute_mode=mode))
    assert design_for("cuda", None) == design
    assert design_for("cuda", "runs") == "runs"
    if design == "runs":
        with pytest.raises(RunFailedError, match="admits one process at a time"):
            design_for("cuda", "duet")


def test_without_nvml_a_gpu_counts_as_shared(
    four_gpus: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nvml, "library", lambda: None)
    assert design_for("cuda", None) == "duet"


@pytest.mark.parametrize(
    "words",
    [
        "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable",
        # All that torch 2.11 says of it.
        "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable\n"
        "Search for `cudaErrorDevicesUnavailable' in the documents for more information.\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n",
    ],
)
def test_a_second_process_on_an_exclusive_gpu_is_one_line(words: str) -> None:
    dead: Any = SimpleNamespace(returncode=1)
    reason = why_it_ended(dead, Cuda(), "open", f"Traceback:\n{words}\n", None)
    assert reason.startswith("another process holds the GPU")


@pytest.mark.parametrize(
    ("peak", "free", "fits"),
    [
        (44e9, 30e9, False),
        (30e9, 45e9, True),
        (30e9, 31e9, False),  # its context and work space come on top
        (None, 30e9, True),
        (30e9, None, True),
    ],
)
def test_two_processes_share_a_device_only_where_both_fit(
    peak: float | None, free: float | None, fits: bool
) -> None:
    why = too_large({"peak_memory_bytes": peak, "free_memory_bytes": free})
    assert (why is None) == fits


def test_skipped_cuda_graphs_are_a_fault_of_the_mode_that_promises_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Cuda()
    monkeypatch.setattr(_dynamo, "skipped_cuda_graphs", lambda: 0)
    assert backend.mode_fault("graphs") is None
    monkeypatch.setattr(_dynamo, "skipped_cuda_graphs", lambda: 2)
    assert "2 programs ran without CUDA graphs" in str(backend.mode_fault("graphs"))
    assert backend.mode_fault("compiled") is None


@pytest.mark.parametrize(
    ("mode", "captured", "filled", "products"),
    [
        ("graphs", True, False, False),
        ("flex", True, True, False),
        ("tuned", True, True, True),
        ("compiled", False, False, False),
        ("eager", False, False, False),
    ],
)
def test_a_compile_mode_is_what_it_says(
    mode: str, captured: bool, filled: bool, products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the device's own part: what is compiled, with which options, and what is captured."""
    compiled: list[dict[str, object]] = []
    taken: list[object] = []
    monkeypatch.setattr(_dynamo, "compile_parts", lambda _, **options: compiled.append(options))
    monkeypatch.setattr(_graphs, "capture", taken.append)
    workload = registry.workload("llama-infer")
    (case,) = workload.cases("tiny", {"batch": ["1"], "input_len": ["4"], "output_len": ["2"]})
    step = workload.build(workload.prepare(case, Weights()), Device(torch_device="cpu"), Weights())
    Cuda().compile(step, mode)
    assert step.reads_filled == filled
    assert [type(module).__name__ for module in taken] == ["Loop"] * captured
    assert [bool(options["products"]) for options in compiled] == [products] * (mode != "eager")
    assert [bool(options["options"]) for options in compiled] == [products] * (mode != "eager")


@pytest.mark.parametrize("mode", ["graphs", "flex", "tuned"])
def test_each_mode_of_captured_steps_promises_cuda_graphs(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dynamo, "skipped_cuda_graphs", lambda: 1)
    assert "without CUDA graphs" in str(Cuda().mode_fault(mode))
