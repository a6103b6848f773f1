"""A tokenizer built from the header of a GGUF file: byte-level BPE vocabularies.

The file only names its pre-tokenizer, the rule that cuts text before merging; the rules here are
those in the tokenizer.json of the models the names stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.workloads._checkpoint.gguf import read_gguf
from tpubench.workloads._checkpoint.header import Header, one_line, quoted, refused
from tpubench.workloads._tokenizer import Tokenizer, prefix_bos

if TYPE_CHECKING:
    import tokenizers
    from tokenizers.pre_tokenizers import PreTokenizer

CONTROL, USER_DEFINED = 3, 4
"""``tokenizer.ggml.token_type`` of tokens that are never cut; control ones are not shown either."""

SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
"""Name in a chat template to key in the header."""

STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2_SPLIT,),
    "smollm": (r"\p{N}", GPT2_SPLIT),
    "starcoder": (r"\p{N}", GPT2_SPLIT),
    "refact": (r"\p{N}", GPT2_SPLIT),
    "llama-bpe": (LLAMA3_SPLIT,),
    "llama3": (LLAMA3_SPLIT,),
    "llama-v3": (LLAMA3_SPLIT,),
    "qwen2": (QWEN2_SPLIT,),
    # What llama.cpp does when a converter did not recognise the vocabulary.
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", r"[0-9][0-9][0-9]"),
}
"""``tokenizer.ggml.pre`` to the patterns that cut the text, one after the other."""

LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
"""Pre-tokenizers whose vocabularies take a whole word that is a token as it is, and add BOS."""


def from_gguf(path: Path) -> Tokenizer:
    """The tokenizer in a GGUF file's header; UsageError as in read_tokenizer."""
    values = read_gguf(path).values
    header = Header(path=path, values=values, prefix="tokenizer.ggml.")
    if header.text("model") != "gpt2":
        raise header.error("model", "only byte-level BPE (gpt2) is supported: use the HF folder")
    pre = header.text("pre")
    if pre not in SPLITS:
        raise header.error("pre", f"supported: {', '.join(SPLITS)}")
    tokens = _strings(header, "tokens")
    backend = _byte_level_bpe(header, tokens, pre)
    special = {
        name: tokens[token]
        for name, key in SPECIAL.items()
        if (token := _token_id(header, key, len(tokens))) is not None
    }
    bos = special.get("bos_token") if header.flag("add_bos_token", pre in LLAMA3) else None
    prefix_bos(backend, bos)
    stops = (_token_id(header, key, len(tokens)) for key in STOP_KEYS)
    template = values.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise refused(path, "tokenizer.chat_template is not a template")
    return Tokenizer(
        path=path,
        backend=backend,
        stop_ids=frozenset(token for token in stops if token is not None),
        template=template,
        special=special,
    )


def _byte_level_bpe(header: Header, tokens: list[str], pre: str) -> tokenizers.Tokenizer:
    """Byte-level BPE with the file's vocabulary, merges and special tokens."""
    from tokenizers import AddedToken, decoders, normalizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise refused(header.path, f"{header.prefix}tokens holds the same token twice")
    pairs = _strings(header, "merges")
    if any(pair.count(" ") != 1 for pair in pairs):
        raise refused(header.path, f"{header.prefix}merges holds something else than pairs")
    merges = [(left, right) for left, _, right in (pair.partition(" ") for pair in pairs)]
    kinds = header.get("token_type") or []
    if not isinstance(kinds, list) or len(kinds) not in (0, len(tokens)):
        raise refused(header.path, f"{header.prefix}token_type has not one entry a token")
    try:
        backend = Backend(BPE(vocabulary, merges, ignore_merges=pre in LLAMA3))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise refused(
            header.path, f"its merges do not fit its vocabulary: {one_line(error)}"
        ) from None
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [
            AddedToken(token, normalized=False, special=kind == CONTROL)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind in (CONTROL, USER_DEFINED) and token
        ]
    )
    return backend


def _pre_tokenizer(name: str) -> PreTokenizer:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    splits = [Split(Regex(pattern), "isolated") for pattern in SPLITS[name]]
    return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


def _strings(header: Header, key: str) -> list[str]:
    values = header.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise refused(header.path, f"{header.prefix}{key} is not a list of texts")
    return values


def _token_id(header: Header, key: str, n_tokens: int) -> int | None:
    """A token id that is in the vocabulary; None when the key is absent."""
    value = header.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n_tokens:
        raise header.error(key, f"not one of {quoted(n_tokens)} tokens")
    return value
