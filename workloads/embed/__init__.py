"""``embed``: text embedding with a BERT-like encoder, from transformers.

Devlin et al., 2019 (arXiv:1810.04805); the vectors of all tokens are averaged and brought to length
one, as E5 and BGE do (Wang et al., 2022, arXiv:2212.03533). Every sequence has full length.

    tpubench run --workload embed --set batch=1,64 --set tokens=512
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case, Laps, Parameter, Timed, UsageError
from tpubench.workloads.forward import Forward, Input, Needs, Tally, size
from tpubench.workloads.vit import encoder

if TYPE_CHECKING:
    from torch import Tensor, nn


class Embed(Forward):
    """A sentence encoder."""

    name = "embed"
    version = 1
    summary = "text embedding: BERT encoder, mean of its tokens"
    unit = "sequence"
    needs = Needs(modules=("transformers",), extra="embed")
    presets: ClassVar[Mapping[str, str]] = {
        "e5-large": "24 layers of 1024: e5-large-v2, bge-large; 334 M parameters",
        "e5-small": "12 layers of 384: e5-small-v2; 33 M parameters",
        "tiny": "2 layers of 32",
    }
    shapes: ClassVar = {
        "e5-large": {"width": 1024, "layers": 24, "heads": 16, "ffn": 4096, "vocab": 30522},
        "e5-small": {"width": 384, "layers": 12, "heads": 12, "ffn": 1536, "vocab": 30522},
        "tiny": {"width": 32, "layers": 2, "heads": 2, "ffn": 64, "vocab": 64},
    }
    batches: ClassVar = {"*": (1, 8, 64, 256)}
    parameters: ClassVar = {
        **Forward.parameters,
        "tokens": Parameter(default=512, minimum=1, doc="tokens of each sequence, 512 at most"),
    }

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "e5-large", "the size that is served"
        return "e5-small", "33 M parameters: the size for a CPU"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        tokens = 16 if preset == "tiny" else 512
        return [{**each, "tokens": tokens} for each in super().standard(preset, accelerator)]

    def validate(self, case: Case) -> None:
        if case.number("tokens") > _POSITIONS:
            raise UsageError(f"tokens={case.number('tokens')}: the encoder has {_POSITIONS} places")

    def module(self, case: Case) -> nn.Module:
        from tpubench.workloads.forward.library import Plain, library

        transformers = library("transformers")

        config = transformers.BertConfig(
            vocab_size=size(case, "vocab"),
            hidden_size=size(case, "width"),
            num_hidden_layers=size(case, "layers"),
            num_attention_heads=size(case, "heads"),
            intermediate_size=size(case, "ffn"),
            attn_implementation="sdpa",
        )
        return Plain(transformers.BertModel(config, add_pooling_layer=False), _mean)

    def inputs(self, case: Case) -> Sequence[Input]:
        return [Input(shape=(case.number("tokens"),), below=size(case, "vocab"))]

    def outputs(self, case: Case) -> int:
        return size(case, "width")

    def depth(self, case: Case) -> int:
        return size(case, "layers")

    def with_depth(self, case: Case, depth: int) -> Case:
        return replace(case, shape={**case.shape, "layers": depth})

    def tally(self, case: Case) -> Tally:
        D, tokens = size(case, "width"), case.number("tokens")
        tally = Tally()
        tally.table(size(case, "vocab"), D, lookups=tokens)
        tally.table(_POSITIONS, D, lookups=0)  # the same for every sequence of the batch
        tally.table(_SEGMENTS, D, lookups=0)
        tally.norm(D)
        encoder(tally, size(case, "layers"), tokens, D, size(case, "ffn"))
        return tally

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        laps = super().measure(case, windows)
        tokens = case.number("tokens")
        rates = [rate * tokens for rate in laps.samples["samples_s"]]
        return Laps(samples={**laps.samples, "input_tok_s": rates})


_POSITIONS, _SEGMENTS = 512, 2


def _mean(model: nn.Module, tokens_BL: Tensor) -> Tensor:
    """[B, D], of length one."""
    import torch.nn.functional as F

    hidden_BLD: Tensor = model(input_ids=tokens_BL).last_hidden_state
    return F.normalize(hidden_BLD.mean(dim=1), dim=-1)
