"""``long-context``: contexts of 32k and 128k tokens, the last 1k of them generated.

The program is that of ``llama-infer``. A context counts prompt and new tokens together: 128k is as
long as the models of Llama 3.1 were built for.
"""

from __future__ import annotations

from typing import ClassVar

from tpubench.workloads.llama.infer import LlamaInfer

_NEW = 1024


class LongContext(LlamaInfer):
    """``llama-infer`` where attention and its cache outweigh the weights."""

    name = "long-context"
    version = 1
    summary = "Llama prefill and decode at contexts of 32k and 128k tokens"
    shorthands: ClassVar = {
        "lengths": {
            f"{thousands}k": {"input_len": thousands * 1024 - _NEW, "output_len": _NEW}
            for thousands in (32, 64, 128)
        }
    }

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"input_len": 120, "output_len": 8}]
        if not accelerator:
            return [{"input_len": 4080, "output_len": 16}]
        longest = int(str(self.shape(preset)["max_context"]))
        cases = self.shorthands["lengths"]
        wanted = [cases[name] for name in ("32k", "128k") if int(name[:-1]) * 1024 <= longest]
        return [dict(case) for case in wanted] or [{"input_len": longest - 16, "output_len": 16}]
