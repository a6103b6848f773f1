"""A checkpoint's tokenizer: text to token ids and back, no torch.

A Hugging Face folder carries its tokenizer whole (tokenizer.json). A GGUF file carries the
vocabulary, the merges and the name of a pre-tokenizer, so the tokenizer is built from those.
Chat templates are programs written by the checkpoint's author: they run in jinja2's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tpubench.suite.workload import UsageError, read_bounded
from tpubench.workloads._checkpoint.header import (
    Header,
    is_file,
    is_folder,
    one_line,
    read_json,
    refused,
)

if TYPE_CHECKING:
    import tokenizers

MAX_PROMPT = 2**20
"""Longest text a chat template may produce, in characters, and most tokens of a prompt."""

MAX_FILE_BYTES = 64 << 20
"""Twice the largest published tokenizer.json."""

TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template can raise while it runs: its own errors and those of the operators it uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Text to token ids and back.

    stop_ids: tokens that end an answer.
    template: chat template, jinja2; None when the checkpoint has none.
    special: special tokens by the name a template knows them by (``bos_token`` …).
    """

    path: Path
    backend: tokenizers.Tokenizer
    stop_ids: frozenset[int]
    template: str | None
    special: Mapping[str, str]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, after a beginning-of-sequence token if the tokenizer adds one."""
        return self._ids(text, special=True)

    def encode_chat(self, text: str) -> list[int]:
        """Ids of ``text`` as a user's message, up to where the answer begins.

        Without a chat template these are the ids of the plain text.
        """
        if self.template is None:
            return self.encode(text)
        # The template writes every special token itself.
        return self._ids(self.render(text), special=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text up to the first token that ends an answer, without special tokens."""
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return self.backend.decode(list(ids[:end]), skip_special_tokens=True)

    def render(self, text: str) -> str:
        """The chat template's text for one user message; UsageError when the template fails."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        # No clock: a prompt that changes from one day to the next is no benchmark.
        environment.globals = {
            "raise_exception": _raise_exception,
            "range": environment.globals["range"],
            "namespace": environment.globals["namespace"],
            "dict": dict,
        }
        environment.filters["tojson"] = _to_json
        pieces, length = [], 0
        try:
            for piece in environment.from_string(self.template or "").generate(
                messages=[{"role": "user", "content": text}],
                add_generation_prompt=True,
                **self.special,
            ):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_PROMPT:
                    raise refused(self.path, "its chat template writes endless text")
        except TEMPLATE_ERRORS as error:
            raise refused(
                self.path, f"its chat template fails ({type(error).__name__}: {one_line(error)})"
            ) from None
        return "".join(pieces)

    def _ids(self, text: str, *, special: bool) -> list[int]:
        try:
            ids = self.backend.encode(text, add_special_tokens=special).ids
        except (TypeError, UnicodeError):
            raise UsageError("the prompt is not valid Unicode text") from None
        if len(ids) > MAX_PROMPT:
            raise refused(self.path, "its tokenizer makes endless tokens of a prompt")
        return ids


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint: a Hugging Face folder or a ``.gguf`` file.

    UsageError (one line, naming the file) when it is missing, damaged or of an unsupported kind.
    """
    try:
        if is_folder(path):
            return _from_folder(path)
        if path.suffix.lower() == ".gguf":
            from tpubench.workloads._tokenizer.gguf import from_gguf

            return from_gguf(path)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"reading {path} needs the package {error.name}: pip install 'tpubench[cpu]'"
        ) from None
    raise refused(path, "neither a folder with tokenizer.json nor a .gguf file")


def prefix_bos(backend: tokenizers.Tokenizer, bos: str | None) -> None:
    """Makes the backend begin every text with ``bos``, or with nothing."""
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = (
        TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
        if bos is None
        else TemplateProcessing(
            single=[bos, "$A"],
            pair=[bos, "$A", "$B:1"],
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    )


def _from_folder(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    file, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not is_file(file):
        raise refused(folder, "there is no tokenizer.json in this folder")
    try:
        backend = Backend.from_buffer(read_bounded(file, MAX_FILE_BYTES))
    except OSError as error:
        raise refused(file, f"cannot be read ({error.strerror})") from None
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise refused(file, f"not a tokenizer: {one_line(error)}") from None
    backend.no_truncation()
    backend.no_padding()
    config = read_json(config_file) if is_file(config_file) else {}
    special = {}
    for key, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(content, str):
            special[key] = content
    header = Header(path=config_file, values=config)
    if header.get("add_bos_token") is not None:
        bos = special.get("bos_token") if header.flag("add_bos_token") else None
        if bos is not None and backend.token_to_id(bos) is None:
            raise header.error("bos_token", "not in the vocabulary")
        prefix_bos(backend, bos)
    stop_ids: list[object] = []
    if "eos_token" in special:
        stop_ids.append(backend.token_to_id(special["eos_token"]))
    for name in ("config.json", "generation_config.json"):
        if is_file(folder / name):
            ids = read_json(folder / name).get("eos_token_id")
            stop_ids += ids if isinstance(ids, list) else [ids]
    return Tokenizer(
        path=folder,
        backend=backend,
        stop_ids=frozenset(token for token in stop_ids if isinstance(token, int)),
        template=_folder_template(folder, header),
        special=special,
    )


def _folder_template(folder: Path, header: Header) -> str | None:
    """The chat template: in a file of its own, or in tokenizer_config.json, alone or in a list."""
    file = folder / "chat_template.jinja"
    if is_file(file):
        try:
            return read_bounded(file, MAX_PROMPT).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise refused(file, "cannot be read as UTF-8 text") from None
    template = header.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise header.error("chat_template", "not a template")
    return template


def _raise_exception(message: object) -> NoReturn:
    """How a template refuses a conversation."""
    raise jinja2.TemplateError(str(message))


def _to_json(value: object, indent: int | None = None) -> str:
    """Plain JSON: jinja2's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
