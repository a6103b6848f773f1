"""Settings of the environment that change what is measured, without any trace in the program.

They are the libraries' own: threads and their places, the compilers' and collectives' options,
allocators. Each row keeps those that were set, and rows that differ in one are not gated against
each other. Names are chosen by list, and none that may hold a secret; of a path only the last part
is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

_PREFIXES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "DNNL_", "ONEDNN_", "ATEN_",
    "MALLOC_", "TCMALLOC_", "MIMALLOC_",
    "TORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "PYTORCH_", "TRITON_",
    "CUBLAS_", "CUBLASLT_", "CUDNN_", "NCCL_", "GLOO_",
    "XLA_", "PJRT_", "TORCH_TPU_",
)  # fmt: skip
_NAMES = frozenset({
    "LD_PRELOAD", "GLIBC_TUNABLES", "TBB_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_MODULE_LOADING", "CUDA_AUTO_BOOST", "CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_PTX_JIT",
    "LIBTPU_INIT_ARGS", "TPU_MEGACORE", "TPU_PREMAPPED_BUFFER_SIZE",
})  # fmt: skip
_ELSEWHERE = re.compile(
    r"CACHE|HOME|LOGS?$|LOG_|TRACE|DEBUG|VERSION|_DIR$|_FILE$|SOCKET|_IFNAME|NSIGHT"
    r"|AUTOLOAD|PJRT_DEVICE|PJRT_SHIM|LIBRARY_PATH"
)
"""Where something is kept, what is printed, which network it goes over, what the row says
already."""
_SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH", re.I)
_FOLDERS = re.compile(r"(?:~|\.{1,2})?/(?:[^\s/:,;=]+/)*(?=[^\s/:,;=]*)")
_MOST = 400
_PLAIN = re.compile(rf"[\w .,:;=+%@\[\]{{}}()<>*\"'&|~!?#^$-]{{0,{_MOST}}}")

DISABLES_COMPILING = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""Set to 1, they make ``torch.compile`` run programs as they are written."""


def changing(overruled: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those that are set here, by name. overruled: what a backend sets itself."""
    return {
        name: _value(value)
        for name, value in sorted(os.environ.items())
        if _counts(name) and name not in (overruled or {})
    }


def in_words() -> str | None:
    """Those that are set here, named; None for none."""
    held = changing()
    if not held:
        return None
    return (
        f"set in the environment, kept with each row: {', '.join(held)};"
        " rows that differ there are not gated"
    )


def _counts(name: str) -> bool:
    ours = name in _NAMES or name.startswith(_PREFIXES)
    return ours and not _ELSEWHERE.search(name) and not _SECRET.search(name)


def _value(text: str) -> str:
    """The value without folders; a digest where it is long, or holds what no setting does."""
    short = _FOLDERS.sub("", text.strip())
    if _PLAIN.fullmatch(short):
        return short
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
