"""llama.cpp as a peer: its own bench tools, built from the sources in the llama-cpp-python sdist.

python benchmarks/llama_cpp.py          # builds into .cache/llama.cpp, about 5 minutes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import gguf
import numpy as np

SDIST = "llama-cpp-python==0.3.36"
CACHE = Path(__file__).parent.parent / ".cache" / "llama.cpp"
TOOLS = ("llama-bench", "llama-batched-bench")
_OFF = ("LLAMA_CURL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER")
_WRITERS_OWN = {"general.architecture", "general.file_type", "general.quantization_version"}


def tools(cache: Path = CACHE) -> Path:
    """Folder of the built tools; builds them the first time (needs cmake and a C++ compiler)."""
    binaries = cache / "build" / "bin"
    if all((binaries / tool).exists() for tool in TOOLS):
        return binaries
    cache.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(cache), SDIST], check=True)
    (archive,) = cache.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(cache, filter="data")
    (source,) = cache.glob("llama_cpp_python-*/vendor/llama.cpp")
    configure = ["cmake", "-S", str(source), "-B", str(cache / "build"), "-DBUILD_SHARED_LIBS=OFF"]
    configure += ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", *(f"-D{o}=OFF" for o in _OFF)]
    subprocess.run(configure, check=True)
    build = ["cmake", "--build", str(cache / "build"), "--parallel", "2", "--target", *TOOLS]
    subprocess.run(build, check=True)
    return binaries


def bfloat16_copy(source: Path, target: Path) -> Path:
    """A copy of the GGUF ``source`` with matrices in bfloat16 and norms in float32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name in _WRITERS_OWN or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        item = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, item)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    bfloat16 = gguf.GGMLQuantizationType.BF16
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape(tuple(int(size) for size in reversed(tensor.shape)))
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            packed = gguf.quants.quantize(values, bfloat16)
            writer.add_tensor(tensor.name, packed, raw_dtype=bfloat16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def decode_s(model: Path, batch: int, prompt: int, tokens: int, threads: int) -> float:
    """Seconds a decode step of ``batch`` sequences, averaged over ``tokens`` steps."""
    command = [str(tools() / "llama-batched-bench"), "-m", str(model), "-t", str(threads)]
    command += ["-npp", str(prompt), "-ntg", str(tokens), "-npl", str(batch), "-fa", "on"]
    command += ["-c", str(batch * (prompt + tokens + 8)), "--output-format", "jsonl"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads([line for line in out.splitlines() if line.startswith("{")][-1])
    return float(result["t_tg"]) / tokens


def prefill_s(model: Path, prompt: int, threads: int) -> float:
    """Seconds to process ``prompt`` tokens: the better of flash attention on and off."""
    command = [str(tools() / "llama-bench"), "-m", str(model), "-t", str(threads), "-o", "json"]
    command += ["-p", str(prompt), "-n", "0", "-r", "1", "-fa", "0,1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return min(float(result["avg_ns"]) for result in json.loads(out)) / 1e9


if __name__ == "__main__":
    print(tools())
