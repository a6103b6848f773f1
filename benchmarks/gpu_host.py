"""Run a command as on an H200 but without one: torch over a CUDA that launches nothing.

    python benchmarks/gpu_host.py --log folder tpubench run --backend cuda --workload gemm …

Needs a CUDA build of torch with its headers (seen with 2.11 of CUDA 13), a C compiler and ``nm``,
and neither a GPU nor a driver. The dispatcher, the allocator, CUDA graphs, events, inductor and
Triton are torch's own; below them ``benchmarks/gpu_host/`` stands for the runtime, the driver,
cuBLAS and NVML. Time passes by rough costs and no kernel computes anything, so that every result is
wrong, every parity check fails and **no figure means anything**: what it shows is whether the
host's side of a program runs, what ends up in a captured graph, and which calls CUDA would refuse.

GPU_HOST_ERROR=call=code has one call fail, as ``cudaGetDeviceCount=802`` where a machine's fabric
manager does not run, or ``cudaMalloc=46`` where another process holds the GPU.

Prints what was refused or happened beside a capture; exit code 1 where there was any, else that of
the command. cuDNN's attention is switched off, for cuDNN asks the driver itself.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).with_suffix("")
LIBRARIES = ("torch_cuda", "c10_cuda", "torch_python", "torch_cuda_linalg", "caffe2_nvrtc")
WITHOUT_CUDNN = """
import importlib.abc, importlib.machinery, sys

class After(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch.backends.cuda":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.enable_cudnn_sdp(False)

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, After())
"""
NVML = """\
nvmlSystemGetDriverVersion 0 580.159.03
nvmlDeviceGetName 0 NVIDIA H200
nvmlDeviceGetUUID 0 GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
nvmlDeviceGetMigMode 0 0
nvmlDeviceGetComputeMode 0 0
nvmlDeviceGetPowerManagementLimit 0 700000
nvmlDeviceGetPowerUsage 0 420000
nvmlDeviceGetTotalEnergyConsumption 0 +30000
"""


def called(torch_libraries: Path, triton_driver: Path) -> set[str]:
    """Functions of CUDA and cuBLAS that torch's libraries and Triton's driver call."""
    names = set(re.findall(r"\b(cu[A-Z]\w+)\(", triton_driver.read_text("utf-8")))
    for library in LIBRARIES:
        command = ["nm", "-D", "--undefined-only", str(torch_libraries / f"lib{library}.so")]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        names |= set(re.findall(r"\bU ((?:__)?cuda\w+|cu[A-Z]\w+|cublas\w+)", text))
    return {name for name in names if not name.startswith("cuFile")}


def build(folder: Path) -> None:
    """``libcuda.so.1``, which stands for the runtime and cuBLAS too, and ``libnvidia-ml.so.1``."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    torch = Path(spec.origin).parent
    packages = torch.parent
    headers = ("nvidia/cu13/include", "triton/backends/nvidia/include")
    includes = [f"-I{packages / folder}" for folder in headers]
    guards = [f"-D__CUDA_{name}_H__" for name in ("FP16", "BF16", "FP8")]  # their headers are C++
    objects: list[Path] = []
    for source in ("memory", "streams", "device", "launches"):
        objects.append(folder / f"{source}.o")
        command = ["cc", "-O1", "-fPIC", "-Wno-deprecated-declarations", *guards, *includes]
        subprocess.run([*command, "-c", HERE / f"{source}.c", "-o", objects[-1]], check=True)
    text = subprocess.run(["nm", *objects], check=True, capture_output=True, text=True).stdout
    driver = packages / "triton/backends/nvidia/driver.c"
    rest = called(torch / "lib", driver) - set(re.findall(r" T (\w+)", text))
    (folder / "rest.c").write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in rest))
    subprocess.run(
        ["cc", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1",
         folder / "rest.c", *objects, "-ldl", "-lpthread"], check=True,
    )  # fmt: skip
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", HERE / "nvml.c"], check=True
    )


def environment(folder: Path, log: Path) -> dict[str, str]:
    (folder / "python").mkdir()
    (folder / "python" / "sitecustomize.py").write_text(WITHOUT_CUDNN)
    (folder / "nvml.txt").write_text(NVML)
    path = [str(folder / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "LD_PRELOAD": str(folder / "libcuda.so.1"),
        "LD_LIBRARY_PATH": str(folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "NVML_SCRIPT": str(folder / "nvml.txt"),
        "GPU_HOST_LOG": str(log),
        "PYTHONPATH": os.pathsep.join(path),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, required=True, help="folder for a log a process")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.log.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        done = subprocess.run(
            options.command, env=environment(folder, options.log.resolve()), check=False
        )
    lines = [line for path in options.log.glob("*.log") for line in path.read_text().splitlines()]
    captures = sum(line.startswith("capture ") and " ends" in line for line in lines)
    wrong = collections.Counter(line for line in lines if line.startswith(("refused", "beside")))
    print(f"gpu_host: {captures} captures; {sum(wrong.values())} calls refused or beside one")
    for line, times in wrong.most_common():
        print(f"{times:6} × {line}")
    sys.exit(1 if wrong else done.returncode)


if __name__ == "__main__":
    main()
