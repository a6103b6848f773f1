"""What torch's compiler makes of a decoder layer for an H100, on a machine that has none.

    python benchmarks/gpu_code.py [--preset llama-3.1-8b] [--batch 1]

Needs a CUDA build of torch (seen with 2.11), and neither a GPU nor a driver. In three parts:

1. A layer's decode step is traced with tensors that have no memory and lowered by inductor as the
   compile modes ``flex`` and ``tuned`` do (but for the timing of kernels): the kernels, in order.
2. Its attention kernel is compiled for the H100 by Triton: size, shared memory.
3. The same kernel of a small shape, made by the same path, runs in Triton's interpreter. Slots of
   blocks beyond the filled ones hold NaN, others beyond the newest token 1e4; its output is held
   against torch's masked attention. The interpreter of Triton 3.6 fails with numpy 2.4 and later.

What only a GPU can show is whether the driver takes it, and how fast it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.filled import BLOCK, attend, filled, slots_read
from tpubench.workloads.llama.model import KVCache, Llama

H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, warp_size=32,
    total_memory=85_000_000_000, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    regs_per_multiprocessor=65536, shared_memory_per_block_optin=232_448,
    shared_memory_per_block=49_152, shared_memory_per_multiprocessor=233_472,
    L2_cache_size=52_428_800, gcnArchName="", uuid="",
)  # fmt: skip
"""What inductor asks of a device, as the driver states it for compute capability 9.0."""
OPTIONS: dict[str, dict[str, Any]] = {"flex": {}, "tuned": {"coordinate_descent_tuning": True}}
SMALL = {"batch": 2, "heads": 2, "group": 3, "width": 64, "capacity": 300}
POSITIONS = (0, 130, 299)


class _LoweredError(Exception):
    """The code is there; loading it would need the device."""


class _Target:
    """The driver that Triton asks what to compile for."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def is_active(self) -> bool:
        return True

    def get_device_interface(self) -> Any:
        return torch.cuda


@contextmanager
def pretending() -> Iterator[Any]:
    """Inside, torch believes in an H100; yields the mode of tensors without memory."""
    import torch._inductor.config as inductor
    import torch._subclasses.fake_tensor as fake
    from triton.runtime import driver

    driver.set_active(_Target())
    mode = fake.FakeTensorMode(allow_non_fake_inputs=True)

    def always(value: object) -> Callable[..., object]:
        return lambda *_, **__: value

    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "_lazy_init": None,
        "get_device_properties": H100, "_get_device_properties": H100,
        "get_device_capability": (9, 0), "get_device_name": H100.name, "synchronize": None,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8), "set_rng_state": None,
        "_exchange_device": 0, "_maybe_exchange_device": 0, "set_device": None,
        "current_stream": None,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, value in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, always(value), create=True))
        stack.enter_context(patch.object(torch.accelerator, "is_available", always(False)))
        stack.enter_context(patch.object(fake, "init_gpu_context", always(None)))
        stack.enter_context(patch.object(fake.FakeTensorMode, "avoid_device_init", True))
        stack.enter_context(inductor.patch(force_disable_caches=True, compile_threads=1))
        yield stack.enter_context(mode)


def code_of(run: Callable[[], object]) -> str:
    """The program that inductor writes for what ``run`` compiles first."""
    from torch._inductor.graph import GraphLowering

    codes: list[str] = []

    def stop(lowering: Any, *_: object, **__: object) -> None:
        wrapper, _kernels = lowering.codegen()
        codes.append(getattr(wrapper, "value", wrapper))
        raise _LoweredError

    torch.compiler.reset()
    with patch.object(GraphLowering, "compile_to_module", stop), torch.no_grad():
        try:
            run()
        except Exception as error:  # torch wraps what stopped it in errors of its own
            if not codes:
                raise error
    return codes[0]


def layer(mode: str, preset: str, batch: int, capacity: int) -> str:
    """The code of one layer's decode step."""
    config = replace(PRESETS[preset], n_layers=1, vocab=1024)
    with pretending():
        with torch.device("cuda"):
            model = Llama(config, capacity, torch.bfloat16).eval().requires_grad_(False)
            cache = KVCache(config, batch, capacity, torch.bfloat16)
            token_B1 = torch.zeros(batch, 1, dtype=torch.int64)
            position_1 = torch.zeros(1, dtype=torch.int64)
        block: Any = model.blocks[0]
        block.forward = torch.compile(
            block.forward, fullgraph=True, dynamic=False, options=OPTIONS[mode] or None
        )
        return code_of(lambda: model(token_B1, position_1, cache, "filled blocks"))


def small_attention() -> str:
    """The code of the attention alone, in float32."""
    B, K, G, H, S = SMALL.values()
    with pretending():
        q, k, v = (torch.empty(B, K, n, H, device="cuda") for n in (G, S, S))
        position_1 = torch.zeros(1, dtype=torch.int64, device="cuda")
        compiled = torch.compile(
            lambda *given: attend(*given[:3], filled(given[3], S)), fullgraph=True, dynamic=False
        )
        return code_of(lambda: compiled(q, k, v, position_1))


def kernels(code: str) -> list[str]:
    """What the program launches, in order."""
    body = code[code.index("def call(") :]
    return re.findall(r"^\s+(triton_\w+(?=\.run\()|extern_kernels\.\w+(?=\())", body, re.M)


def template(code: str) -> tuple[str, str]:
    """Name and source of its attention kernel."""
    match = re.search(r"async_compile.triton\('(triton_tem\w+)', '''(.*?)'''", code, re.S)
    assert match is not None, "no kernel for decoding: torch took another one"
    return match[1], match[2]


def load(source: str, folder: str) -> Any:
    """A module of that source: Triton reads its kernels from a file."""
    path = Path(folder) / "kernel.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("kernel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def machine_code(code: str) -> str:
    """Size and shared memory of its attention kernel, compiled for the H100."""
    import triton
    from triton.compiler import ASTSource

    name, source = template(code)
    with tempfile.TemporaryDirectory() as folder, pretending():
        kernel = getattr(load(source, folder), name)
        config, meta = kernel.configs[0], kernel.triton_meta
        signature = {**meta["signature"], **dict.fromkeys(config.kwargs, "constexpr")}
        compiled = triton.compile(
            ASTSource(
                fn=kernel.fn,
                signature=signature,
                constexprs={**meta.get("constants", {}), **config.kwargs},
                attrs=meta["configs"][0],
            ),
            target=_Target().get_current_target(),
            options={"num_warps": config.num_warps, "num_stages": config.num_stages},
        )
    return f"{len(compiled.asm['cubin'])} bytes, {compiled.metadata.shared} bytes of shared memory"


def interpret(path: str) -> None:
    """Run the small kernel for several positions; started with TRITON_INTERPRET=1."""
    code = Path(path).read_text(encoding="utf-8")
    name, source = template(code)
    source = re.sub(
        r"@triton_heuristics\.template\(.*?\n\)\n(?=@triton\.jit)", "", source, flags=re.S
    )
    grid = re.search(rf"{name}\.run\(.*?(\d+), (\d+), (\d+), stream", code)
    assert grid is not None
    splits = int(grid[3])
    B, K, G, H, S = SMALL.values()
    with tempfile.TemporaryDirectory() as folder:
        kernel = getattr(load(source, folder), name)
        for position in POSITIONS:
            generator = torch.Generator().manual_seed(position)
            q, k, v = (torch.randn(B, K, n, H, generator=generator) for n in (G, S, S))
            mask_1S = torch.arange(S).unsqueeze(0) <= position
            expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_1S)
            for spoilt in (k, v):
                spoilt[:, :, position + 1 :] = 1e4
                spoilt[:, :, slots_read(position, S) :] = torch.nan
            most, total = (torch.full((B, splits, K, G), torch.nan) for _ in range(2))
            parts = torch.full((B, splits, K, G, H), torch.nan)
            count = torch.tensor([position // BLOCK + 1], dtype=torch.int32)
            numbers, none = torch.arange(-(-S // BLOCK), dtype=torch.int32), torch.zeros(1)
            position_1 = torch.tensor([position])
            given = (q, k, v, most, total, count, numbers, none, none, position_1, parts)
            kernel[tuple(map(int, grid.groups()))](*given)
            # The sums over the splits, which two further kernels of the program do.
            scale = torch.exp2(most - most.amax(1, keepdim=True))
            y = (parts * scale.unsqueeze(-1)).sum(1) / (total * scale).sum(1).unsqueeze(-1)
            error = float((y - expected).norm() / expected.norm())
            busy = int(most.isfinite().all(-1).all(-1)[0].sum())
            print(f"position {position}: {busy} of {splits} splits busy, error {error:.1e}")
            assert error < 1e-5, "the kernel is wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="llama-3.1-8b", choices=list(PRESETS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--capacity", type=int, default=1152, help="slots of the cache")
    parser.add_argument("--interpret", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.interpret:
        interpret(options.interpret)
        return
    if torch.version.cuda is None:
        parser.error("needs a CUDA build of torch; no GPU")
    for mode in OPTIONS:
        code = layer(mode, options.preset, options.batch, options.capacity)
        names = kernels(code)
        print(f"{mode}: {len(names)} kernels a layer (torch {torch.__version__})")
        for name in names:
            print(f"  {name[:96]}")
        print(f"  attention for sm_90: {machine_code(code)}", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".py") as small:
        small.write(small_attention())
        small.flush()
        command = [sys.executable, __file__, "--interpret", small.name]
        subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)


if __name__ == "__main__":
    main()
