"""What adapters decide without their device: names, chips, compiling, the verdict on a clock."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tpubench.devices.names import canonical
from tpubench.devices.sheets import devices
from tpubench.suite import clock_check, facts, registry
from tpubench.suite.backends import _chips, _cpu_compile, _dynamo, cpu
from tpubench.suite.backends.tpu import Tpu
from tpubench.suite.job import Outcome
from tpubench.suite.workload import Weights
from tpubench.workloads.llama.step import LlamaStep


def pci(bus: Path, *ids: tuple[str, str]) -> Path:
    for number, (vendor, device) in enumerate(ids):
        folder = bus / f"0000:00:{number:02x}.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text(f"{device}\n")
    return bus


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("0x005e", "tpu-v4"),
        ("0x0062", "tpu-v5p"),
        ("0x0063", "tpu-v5e"),
        ("0x006f", "tpu-v6e"),
        ("0x0076", "tpu-v7"),
    ],
)
def test_a_tpu_is_known_by_its_pci_id_and_is_in_the_table(
    tmp_path: Path, device: str, name: str
) -> None:
    assert _chips.tpus(pci(tmp_path, ("0x1ae0", device), ("0x8086", "0x0063"))) == [name]
    assert name in devices()


def test_googles_other_cards_are_no_tpus(tmp_path: Path) -> None:
    assert _chips.tpus(pci(tmp_path, ("0x1ae0", "0x0042"))) == []
    assert _chips.tpus(tmp_path / "no bus") == []


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100-sxm-80gb"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-sxm"),
        ("NVIDIA H200", "nvidia-h200-sxm"),
        ("NVIDIA B200", "nvidia-b200-sxm"),
        ("NVIDIA GB200", "nvidia-gb200"),
        ("NVIDIA L4", "nvidia-l4"),
        ("NVIDIA L40S", "nvidia-l40s"),
        ("TPU v6e", "tpu-v6e"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA L40", None),
    ],
)
def test_what_a_driver_calls_a_device_is_named_or_left_open(
    reported: str, name: str | None
) -> None:
    assert canonical(reported) == name


def test_a_v7_chip_is_two_devices_and_one_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Tpu()
    monkeypatch.setattr(_chips, "tpus", lambda: ["tpu-v7"] * 4)
    monkeypatch.setattr(backend, "device_name", lambda: "tpu-v7")
    assert backend.processes(4) == 8
    assert [backend.physical_chips(held) for held in (1, 2, 8)] == [1, 1, 4]
    # Both devices of a single chip work, each a rank; XLA's SPMD spreads over both.
    assert backend.processes(1) == 2
    assert registry.backend("xla").devices(1) == 2


def test_one_chip_of_several_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    monkeypatch.setattr(_chips, "tpus", lambda: ["tpu-v6e"] * 4)
    one_chip = {
        "TPU_VISIBLE_CHIPS": "0",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }
    for name in ("xla", "tpu"):
        backend = registry.backend(name)
        assert one_chip.items() <= backend.child_environment(1).items()
        assert not one_chip.keys() & backend.child_environment(4).keys()
    monkeypatch.setenv("TPU_VISIBLE_CHIPS", "2")
    assert registry.backend("xla").child_environment(1)["TPU_VISIBLE_CHIPS"] == "2"


def test_chips_that_are_not_visible_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Tpu()
    monkeypatch.setattr(_chips, "tpus", lambda: ["tpu-v6e"] * 4)
    assert backend.visible_chips() == 4
    monkeypatch.setenv("TPU_VISIBLE_CHIPS", "1,2")
    assert backend.visible_chips() == 2


@pytest.mark.parametrize(
    ("workload", "device", "share"),
    [
        ("gemm", "tpu-v7", 0.5),  # one device of the two
        ("llama-infer", "tpu-v7", 1.0),  # both
        ("gemm", "tpu-v6e", 1.0),
        ("gemm", "cpu", 1.0),
    ],
)
def test_one_device_of_two_is_held_against_half_the_chip(
    workload: str, device: str, share: float
) -> None:
    outcome = Outcome(status="ok", device=device)
    assert facts._share_of_a_chip(registry.workload(workload), outcome) == share


@pytest.mark.parametrize("options", [{}, {"mode": "reduce-overhead"}])
def test_a_container_is_compiled_and_not_skipped_in_silence(options: dict[str, str]) -> None:
    # What cuda does with a program, on the host: inductor compiles it, whatever the outer module.
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.SiLU())
    x = torch.ones(2, 8)
    with torch.no_grad():
        expected = module(x)
        before = _dynamo.graphs()
        _dynamo.compile_in_place(module, **options)
        torch.testing.assert_close(module(x), expected)
    assert _dynamo.graphs() == before + 1


class Stack(torch.nn.Module):
    """A model that repeats two blocks of one class, as wide inside as is asked for."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(8, inner), torch.nn.Linear(inner, 8))
            for _ in range(2)
        )
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


class SideBySide(torch.nn.Module):
    """A small model and a large one, as speculative decoding has them."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = Stack(16), Stack(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.small(x) + self.large(x)  # type: ignore[no-any-return]


def test_models_side_by_side_are_each_compiled_block_by_block() -> None:
    both = SideBySide()
    _dynamo.compile_parts(both, backend="eager")
    for model in (both.small, both.large):
        assert all("forward" in vars(block) for block in model.blocks)
        assert "forward" not in vars(model)
    assert "forward" not in vars(both), "or every layer of both would be one program"


def test_blocks_of_one_class_and_two_shapes_share_no_compiled_code() -> None:
    """Compiled code for one row has no guards: it would read the small weights as large ones."""
    both, x = SideBySide(), torch.ones(1, 8)
    with torch.no_grad():
        expected = both(x)
        _cpu_compile.compile_blocks(both)
        torch.testing.assert_close(both(x), expected)


class Scaled(torch.nn.Module):
    """A block whose class and tensors are another's, and whose attribute is not."""

    def __init__(self, factor: float, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.factor, self.linear = factor, linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.factor


class Uneven(torch.nn.Module):
    """As libraries write them: lists of lists, in which there may be nothing."""

    def __init__(self) -> None:
        super().__init__()
        linears = [torch.nn.Linear(8, 8) for _ in range(3)]
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleList([Scaled(2.0**place, linear), None])
            for place, linear in enumerate(linears)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for scaled, _ in self.layers:
            x = scaled(x)
        return x


def test_all_layers_of_a_decoder_share_one_compiled_function() -> None:
    """With packed weights too: 30 layers compiled one by one once took 30 times as long."""
    workload, cpu = registry.workload("llama-infer"), registry.backend("cpu")
    settings = {"input_len": ["4"], "output_len": ["4"], "dtype": ["float32"]}
    (case,) = workload.cases("tiny", {**settings, "batch": ["1"]})
    step = workload.build(workload.prepare(case, Weights()), cpu.open("eager"), Weights())
    cpu.compile(step, "compiled")
    before = cpu.recompiles()
    step.run(lambda *_: None)
    assert isinstance(step, LlamaStep) and len(step.model.blocks) > 1
    assert cpu.recompiles() - before == 1


def test_blocks_that_differ_in_an_attribute_share_no_compiled_code() -> None:
    """The layers of x-transformers lie in such lists, beside None; torch leaves None in them."""
    model, x = Uneven(), torch.ones(1, 8)
    with torch.no_grad():
        expected = model(x)
        _cpu_compile.compile_blocks(model)
        torch.testing.assert_close(model(x), expected)
        model = Uneven()
        expected = model(x)
        _dynamo.compile_parts(model, backend="eager")
        torch.testing.assert_close(model(x), expected)


def timings(**changed: float) -> clock_check.Timings:
    values = {"left_over": 0.01, "once_s": 0.1, "twice_s": 0.2, "flops": 1e12}
    return clock_check.Timings(**{**values, **changed}, idle_barrier_s=1e-4)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"left_over": 0.9}, "the barrier does not wait"),
        ({"twice_s": 0.11}, "work is left out"),
        ({"flops": 1e15}, "above the device's peak"),
    ],
)
def test_a_clock_that_cannot_be_true_is_refused(changed: dict[str, float], why: str) -> None:
    assert clock_check.fault(timings(), 1e14) is None
    assert why in str(clock_check.fault(timings(**changed), 1e14))


@pytest.mark.parametrize("name", ["cuda", "tpu", "xla"])
def test_an_absent_device_is_told_without_loading_its_library(name: str) -> None:
    probed = registry.backend(name).probe()
    if not probed.available:
        assert probed.fix


def test_a_sandbox_that_resets_no_peak_of_memory_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gVisor lets nobody write to the file: the peak of the imports is not the program's."""
    backend = cpu.Cpu()
    assert isinstance(backend.peak_memory_bytes(), int)
    monkeypatch.setattr(cpu, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")
    backend.reset_peak_memory()
    assert backend.peak_memory_bytes() is None


def test_a_graph_break_is_counted_and_one_whole_graph_is_demanded() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    before = _dynamo.disturbances()["graph breaks"]
    torch.compile(broken, backend="eager")(torch.ones(3))
    assert _dynamo.disturbances()["graph breaks"] > before

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return broken(x)

    module = Broken()
    _dynamo.compile_in_place(module, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported):
        module(torch.ones(3))


@pytest.mark.parametrize("products", [False, True])
def test_a_decoders_head_is_compiled_only_where_products_are_tuned(products: bool) -> None:
    model = Stack(16)
    _dynamo.compile_parts(model, products=products, backend="eager")
    assert ("forward" in vars(model.head)) == products
    assert all("forward" in vars(block) for block in model.blocks)
