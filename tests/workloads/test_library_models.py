"""Models of a library as a stranger would bring them: one file, a class each, nothing adapted.

Encoders, decoders, experts, a state space, convolutions, windows, sound: what each does while it is
built and run is its own business, and all of it must pass the same checks on the scripted device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """
from tpubench.workloads.forward import Forward, Input, Needs

TEXT = dict(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=128)
GIVEN = {"input_ids": Input(shape=(16,), below=100), "pixel_values": Input(shape=(3, 32, 32)),
         "input_values": Input(shape=(4000,))}


def model(kind, given="input_ids", **settings):
    class Model(Forward):
        name, version, summary = kind.lower(), 1, kind
        needs = Needs(modules=("transformers",), extra="vision")
        presets, shapes = {"tiny": "two layers"}, {"tiny": {}}

        def module(self, case):
            import transformers

            from tpubench.workloads.forward.library import Plain

            config = getattr(transformers, kind.replace("EncoderModel", "Model")[:-5] + "Config")
            model = getattr(transformers, kind)(config(**settings))
            return Plain(model, lambda m, x: m(**{given: x}).last_hidden_state)

        def inputs(self, case):
            return [GIVEN[given]]

    return Model


GPT2 = model("GPT2Model", vocab_size=100, n_embd=64, n_layer=2, n_head=4)
Bert = model("BertModel", **TEXT)
ModernBert = model("ModernBertModel", pad_token_id=0, **TEXT)
T5 = model("T5EncoderModel", vocab_size=100, d_model=64, d_kv=16, d_ff=128, num_layers=2,
           num_heads=4)
Mamba = model("MambaModel", vocab_size=100, hidden_size=64, num_hidden_layers=2, state_size=8)
Gemma2 = model("Gemma2Model", num_key_value_heads=2, head_dim=16, sliding_window=8, **TEXT)
Olmoe = model("OlmoeModel", num_experts=4, num_experts_per_tok=2, num_key_value_heads=2, **TEXT)
Swin = model("SwinModel", "pixel_values", image_size=32, patch_size=4, embed_dim=24,
             depths=[1, 1], num_heads=[2, 4], window_size=4)
ConvNext = model("ConvNextModel", "pixel_values", hidden_sizes=[16, 32, 64, 64],
                 depths=[1, 1, 1, 1], image_size=32)
Wav2Vec2 = model("Wav2Vec2Model", "input_values", hidden_size=64, num_hidden_layers=2,
                 num_attention_heads=4, intermediate_size=128, conv_dim=(32,) * 7,
                 num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
"""
MODELS = ("GPT2", "Bert", "ModernBert", "T5", "Mamba", "Gemma2", "Olmoe", "Swin", "ConvNext",
          "Wav2Vec2")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all, one cache for all: each used to recall another's reference."""
    place = tmp_path_factory.mktemp("theirs")
    (place / "zoo.py").write_text(FILE)
    return place


@pytest.mark.parametrize(
    "name",
    [name if name in {"Gemma2", "Swin"} else pytest.param(name, marks=pytest.mark.nightly)
     for name in MODELS],
)  # fmt: skip
def test_a_librarys_model_passes_every_check(folder: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tpubench.cli", "run", "--workload", f"zoo:{name}",
         "--backend", "fake", "--repeats", "1", "--json"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TPUBENCH_DEBUG": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {row["status"] for row in json.loads(done.stdout)["rows"]} == {"ok"}
