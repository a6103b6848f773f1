"""``sdxl-unet``: one denoising step of Stable Diffusion XL, from diffusers.

Podell et al., 2023 (arXiv:2307.01952): the U-Net that an image of 1024 × 1024 pixels passes
through some 20 to 50 times, twice each with classifier-free guidance, which the batch counts. Its
latent has an eighth of the pixels a side; 77 tokens of two text encoders condition it.

    tpubench run --workload sdxl-unet --set batch=2,8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case, Parameter, UsageError
from tpubench.workloads.forward import Forward, Input, Needs, Tally, size, sizes

if TYPE_CHECKING:
    from torch import Tensor, nn


class SdxlUnet(Forward):
    """The U-Net of SDXL base."""

    name = "sdxl-unet"
    version = 1
    summary = "image generation: one step of Stable Diffusion XL's U-Net"
    unit = "step"
    needs = Needs(modules=("diffusers", "transformers"), extra="vision")
    presets: ClassVar[Mapping[str, str]] = {
        "sdxl": "SDXL base, 1024 × 1024 pixels: 2.57 B parameters",
        "tiny": "32, 64 and 64 channels, a latent of 16",
    }
    shapes: ClassVar = {
        "sdxl": {
            "channels": (320, 640, 1280), "transformers": (0, 2, 10), "head_dim": 64, "groups": 32,
            "context": 2048, "tokens": 77, "pooled": 1280, "time_width": 256,
        },
        "tiny": {
            "channels": (32, 64, 64), "transformers": (0, 1, 2), "head_dim": 16, "groups": 8,
            "context": 48, "tokens": 7, "pooled": 32, "time_width": 8,
        },
    }  # fmt: skip
    batches: ClassVar = {"*": (2, 8)}
    parameters: ClassVar = {
        **Forward.parameters,
        "latent": Parameter(default=128, minimum=4, doc="side of the latent; an eighth of pixels"),
    }

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "sdxl", "the model that is served"
        return "tiny", "a step of sdxl takes a CPU minutes, and 10 GB"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        latent = 16 if preset == "tiny" else 128
        return [{**each, "latent": latent} for each in super().standard(preset, accelerator)]

    def validate(self, case: Case) -> None:
        if case.number("latent") % 4:
            raise UsageError(f"latent={case.number('latent')}: it is halved twice, take 4, 8, 12 …")

    def twin(self, case: Case) -> Case:
        small = super().twin(case)
        return replace(small, params={**small.params, "latent": 16})

    def module(self, case: Case) -> nn.Module:
        from tpubench.workloads.forward.library import Plain, library

        channels, depths = sizes(case, "channels"), sizes(case, "transformers")
        down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
        up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)]
        pooled, time_width = size(case, "pooled"), size(case, "time_width")
        model = library("diffusers").UNet2DConditionModel(
            sample_size=case.number("latent"),
            block_out_channels=channels,
            down_block_types=down,
            up_block_types=up,
            transformer_layers_per_block=[max(depth, 1) for depth in depths],
            attention_head_dim=[width // size(case, "head_dim") for width in channels],
            norm_num_groups=size(case, "groups"),
            cross_attention_dim=size(case, "context"),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=pooled + _TIMES * time_width,
        )
        return Plain(model, _denoised)

    def inputs(self, case: Case) -> Sequence[Input]:
        side = case.number("latent")
        return [
            Input(shape=(_LATENT_CHANNELS, side, side)),
            Input(shape=(), below=1000),
            Input(shape=(size(case, "tokens"), size(case, "context"))),
            Input(shape=(size(case, "pooled"),)),
            Input(shape=(_TIMES,), below=1024),
        ]

    def outputs(self, case: Case) -> int:
        return _LATENT_CHANNELS * case.number("latent") ** 2

    def tally(self, case: Case) -> Tally:
        return _Walk(case).tally


_LATENT_CHANNELS, _TIMES = 4, 6
_LAYERS = 2
"""Residual blocks a level on the way down; one more on the way up."""


def _denoised(
    model: nn.Module,
    latent_BCHW: Tensor,
    step_B: Tensor,
    text_BLC: Tensor,
    pooled_BC: Tensor,
    times_BT: Tensor,
) -> Tensor:
    """The predicted noise, [B, 4, H, W]."""
    noise: Tensor = model(
        latent_BCHW,
        step_B,
        encoder_hidden_states=text_BLC,
        added_cond_kwargs={"text_embeds": pooled_BC, "time_ids": times_BT},
        return_dict=False,
    )[0]
    return noise


class _Walk:
    """Goes through the U-Net as a sample does, and adds up what it meets."""

    def __init__(self, case: Case) -> None:
        self.tally, self.case = Tally(), case
        channels, depths = sizes(case, "channels"), sizes(case, "transformers")
        self.time = 4 * channels[0]
        side = case.number("latent")
        self._embeddings(channels[0])
        self.tally.conv(side, _LATENT_CHANNELS, channels[0], 3)
        width, skips = channels[0], [channels[0]]
        for level, (out, depth) in enumerate(zip(channels, depths, strict=True)):
            for _ in range(_LAYERS):
                self._residual(side, width, out)
                width = out
                if depth:
                    self._transformer(side, out, depth)
                skips.append(out)
            if level < len(channels) - 1:
                side //= 2
                self.tally.conv(side, out, out, 3)
                skips.append(out)
        self._residual(side, width, width)
        self._transformer(side, width, depths[-1])
        self._residual(side, width, width)
        for level, (out, depth) in enumerate(
            zip(reversed(channels), reversed(depths), strict=True)
        ):
            for _ in range(_LAYERS + 1):
                self._residual(side, width + skips.pop(), out)
                width = out
                if depth:
                    self._transformer(side, out, depth)
            if level < len(channels) - 1:
                side *= 2
                self.tally.conv(side, out, out, 3)
        self.tally.norm(width)
        self.tally.conv(side, width, _LATENT_CHANNELS, 3)

    def _embeddings(self, width: int) -> None:
        """Of the step, and of what else conditions it."""
        added = size(self.case, "pooled") + _TIMES * size(self.case, "time_width")
        for first in (width, added):
            self.tally.linear(1, first, self.time)
            self.tally.linear(1, self.time, self.time)

    def _residual(self, side: int, width: int, out: int) -> None:
        self.tally.norm(width)
        self.tally.conv(side, width, out, 3)
        self.tally.linear(1, self.time, out)
        self.tally.norm(out)
        self.tally.conv(side, out, out, 3)
        if width != out:
            self.tally.conv(side, width, out, 1)

    def _transformer(self, side: int, width: int, depth: int) -> None:
        pixels, tokens = side * side, size(self.case, "tokens")
        self.tally.norm(width)
        self.tally.linear(pixels, width, width)
        for _ in range(depth):
            for keys, source in ((pixels, width), (tokens, size(self.case, "context"))):
                self.tally.norm(width)
                self.tally.linear(pixels, width, width, bias=False)
                for _ in ("key", "value"):
                    self.tally.linear(keys, source, width, bias=False)
                self.tally.attend(pixels, keys, width)
                self.tally.linear(pixels, width, width)
            self.tally.norm(width)
            self.tally.linear(pixels, width, 8 * width)  # gated: twice four times the width
            self.tally.linear(pixels, 4 * width, width)
        self.tally.linear(pixels, width, width)
