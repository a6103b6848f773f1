"""The run file: a run written down, for ``tpubench run FILE.toml``.

    workload = "llama-infer"
    backend = "cuda"
    repeats = 5
    weights = "models/smollm2"

    [set]
    batch = [1, 8]
    dtype = "bfloat16"

Every option of ``tpubench run`` is a key, with underscores for hyphens, and every parameter of the
workload a key of ``[set]``. Paths are as seen from the file. What the command line says goes before
what the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tpubench.costs.userfile import Checked, read_toml
from tpubench.errors import UsageError

Value = int | float | str

_INSTEAD = (
    ("preset", "weights"),
    ("prompt", "prompt_ids"),
    ("price", "usd_per_chip_hour"),
    ("server", "engine"),
)
"""Options that exclude each other: one on the command line replaces the other in the file."""


class RunFile(Checked):
    """The whole file; a key for each option of ``tpubench run``."""

    workload: str | None = None
    backend: str | None = None
    preset: str | None = None
    settings: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(
        default_factory=dict, alias="set"
    )
    repeats: int | None = None
    weights: str | None = None
    prompt: str | None = None
    prompt_ids: list[int] | None = Field(default=None, min_length=1)
    python: str | None = None
    compile_mode: str | None = None
    timeout: float | None = None
    chips: int | None = None
    server: str | None = None
    engine: str | None = None
    model: str | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    power_w: float | None = None
    slo: list[str] | None = Field(default=None, min_length=1)
    device: str | None = None
    dtype: str | None = None
    price: str | None = None
    usd_per_chip_hour: float | None = None
    prices: list[str] | None = None
    store: str | None = None
    seed: int | None = None
    as_json: bool | None = Field(default=None, alias="json")
    explain: bool | None = None
    dry_run: bool | None = None


def with_file(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` (what the command line says; None or empty where it is silent), and the file's word
    for the rest, each value as the option of that name takes it.

    UsageError with file, key and reason for a file that makes no sense.
    """
    if path.suffix != ".toml":
        raise UsageError(
            f"{path}: a run file ends in .toml; to run a workload, write --workload {path}"
        )
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UsageError(f"{path} is not a file")
    file = read_toml(path, RunFile)
    # By identity: a seed of 0 is said, and equals False.
    said = {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != []
    }
    options = _options(path, file)
    for each, other in _INSTEAD:
        if each in said or other in said:
            options.pop(each, None)
            options.pop(other, None)
    options["settings"] = _settings(file, said)
    if "seed" in {text.partition("=")[0].strip() for text in said.get("settings", [])}:
        options.pop("seed", None)
    return {**given, **options, **said, "settings": options["settings"] + said.get("settings", [])}


def _options(path: Path, file: RunFile) -> dict[str, Any]:
    """What the file says, as the options take it."""
    here = path.absolute().parent
    options = {
        name: value
        for name in RunFile.model_fields
        if name != "settings" and (value := getattr(file, name)) is not None
    }
    for name, value in options.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"{path}: {name} is empty: give it a value, or leave it out")
    if "api_key_env" in options:  # the file may be somebody else's, and so may its server
        raise UsageError(
            f"{path}: which secret is sent is said on the command line alone: --api-key-env NAME"
        )
    for name in ("weights", "store"):
        if name in options:
            options[name] = here / Path(options[name]).expanduser()
    if "python" in options:  # a bare name is looked for on the PATH
        python = Path(options["python"]).expanduser()
        options["python"] = here / python if len(python.parts) > 1 else python
    if "prices" in options:
        options["prices"] = [here / Path(each).expanduser() for each in options["prices"]]
    if "prompt_ids" in options:
        options["prompt_ids"] = ",".join(map(str, options["prompt_ids"]))
    return options


def _settings(file: RunFile, said: Mapping[str, Any]) -> list[str]:
    """The parameters of the file as ``--set`` takes them, without those set by the user."""
    replaced = {text.partition("=")[0].strip() for text in said.get("settings", [])}
    if "seed" in said:
        replaced.add("seed")
    return [
        f"{key}={','.join(map(str, value if isinstance(value, list) else [value]))}"
        for key, value in file.settings.items()
        if key not in replaced
    ]
