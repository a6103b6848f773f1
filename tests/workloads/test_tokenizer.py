"""A checkpoint's tokenizer gives the ids its model was trained on, and runs no hostile template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import transformers
from tiny_checkpoints import edit_json

from tpubench.errors import UsageError
from tpubench.workloads._checkpoint.gguf import read_gguf
from tpubench.workloads._tokenizer import Tokenizer, read_tokenizer

QUESTION = "What is the capital of France?"

TEXTS = [
    "",
    "Hello world",
    "The year 2024, version 3.14159 and 1234567 cats",
    "naïve café, Straße, Привет, 日本語, عربي",
    "🦙🏽 👩‍👩‍👧 e\u0301",
    "one\ntwo\n\nthree\r\n\tfour",
    "  spaces   inside  and after  ",
    "don't I'LL we've \"quoted\" (x) a+b==c && $5 ^2 |~ `code`",
    "<|im_start|>user\nhi<|im_end|>\n<filename>a.py",
]

# Ids from llama.cpp's tokenizer for the same file. transformers ignores the file's pre-tokenizer
# ("smollm": each digit apart from what precedes it), so the two differ where spaces meet a digit.
DIGITS_AFTER_SPACES = {
    "a  2024": [81, 256, 34, 32, 34, 36],
    "x 12": [104, 216, 33, 34],
    "don't\n\n 1": [12420, 982, 8866, 33],
}


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Tokenizer:
    return read_tokenizer(smollm2_gguf)


@pytest.fixture(scope="module")
def theirs(smollm2_gguf: Path) -> Any:
    """transformers' tokenizer from the same file."""
    return transformers.AutoTokenizer.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name
    )


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer as a Hugging Face folder."""
    path = tmp_path_factory.mktemp("tokenizer")
    theirs.save_pretrained(path)
    return path


def chat_ids(tokenizer: Any) -> list[int]:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True
    )
    return list(ids if isinstance(ids, list) else ids["input_ids"])


@pytest.mark.parametrize("text", TEXTS)
def test_a_gguf_gives_the_ids_of_transformers(smollm2: Tokenizer, theirs: Any, text: str) -> None:
    assert smollm2.encode(text) == theirs(text).input_ids


@pytest.mark.parametrize("text", DIGITS_AFTER_SPACES)
def test_digits_stand_apart_as_the_file_says(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.encode(text) == DIGITS_AFTER_SPACES[text]


@pytest.mark.parametrize("text", TEXTS)
def test_a_folder_gives_the_ids_of_transformers(folder: Path, theirs: Any, text: str) -> None:
    assert read_tokenizer(folder).encode(text) == theirs(text).input_ids


@pytest.mark.parametrize("text", [text for text in TEXTS if "<" not in text])
def test_decoding_gives_the_text_back(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.decode(smollm2.encode(text)) == text


def test_decoding_stops_at_the_end_of_the_answer(smollm2: Tokenizer) -> None:
    assert smollm2.stop_ids == {2}
    assert smollm2.decode([*smollm2.encode("Paris."), 2, *smollm2.encode(" More")]) == "Paris."


def test_decoding_leaves_out_special_tokens(smollm2: Tokenizer) -> None:
    assert smollm2.decode(smollm2.encode("<|im_start|>Paris.")) == "Paris."


def test_chat_prompt_is_the_one_of_transformers(
    smollm2: Tokenizer, folder: Path, theirs: Any
) -> None:
    assert smollm2.encode_chat(QUESTION) == chat_ids(theirs)
    assert read_tokenizer(folder).encode_chat(QUESTION) == chat_ids(theirs)


# Folders


def small_folder(path: Path, template: str | None = None, **config: Any) -> Path:
    """A tokenizer of single letters, saved as a folder."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing

    vocabulary = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz []0123456789")}
    backend = Backend(BPE(vocabulary, []))
    backend.add_special_tokens(["<s>", "</s>"])
    bos = backend.token_to_id("<s>")
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    backend.enable_truncation(3)
    backend.save(str(path / "tokenizer.json"))
    values = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **config}
    (path / "tokenizer_config.json").write_text(json.dumps(values))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


def rendered(path: Path, template: str, text: str = "hi") -> str:
    return read_tokenizer(small_folder(path, template)).render(text)


def test_plain_text_begins_as_the_tokenizer_says(tmp_path: Path) -> None:
    assert read_tokenizer(small_folder(tmp_path)).encode("abcde") == [39, 0, 1, 2, 3, 4]
    small_folder(tmp_path, add_bos_token=False)
    assert read_tokenizer(tmp_path).encode("abcde") == [0, 1, 2, 3, 4]
    small_folder(tmp_path, add_bos_token=True)
    assert read_tokenizer(tmp_path).encode("abcde") == [39, 0, 1, 2, 3, 4]


def test_without_a_template_a_chat_is_plain_text(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(small_folder(tmp_path))
    assert tokenizer.encode_chat("abc") == tokenizer.encode("abc") == [39, 0, 1, 2]


def test_every_stop_token_of_a_folder_is_known(tmp_path: Path) -> None:
    small_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    assert read_tokenizer(tmp_path).stop_ids == {7, 8, 9, 40}


@pytest.mark.parametrize(
    "chat_template",
    [
        "{{ bos_token }}[x]",
        [
            {"name": "tools", "template": "no"},
            {"name": "default", "template": "{{ bos_token }}[x]"},
        ],
    ],
)
def test_template_in_the_configuration(tmp_path: Path, chat_template: Any) -> None:
    tokenizer = read_tokenizer(small_folder(tmp_path, chat_template=chat_template))
    assert tokenizer.render("hi") == "<s>[x]"
    assert tokenizer.encode_chat("hi") == [39, *tokenizer.encode("[x]")[1:]]  # one <s>, not two


def test_template_sees_what_transformers_gives_it(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}\n    {% if loop.index0 > 5 %}{% break %}{% endif %}\n"
        "{{ bos_token + m['role'] + m.content | trim + eos_token }}\n{% endfor %}\n"
        "{% if add_generation_prompt %}go{{ {'a': '<é>'} | tojson }}{% endif %}"
    )
    assert rendered(tmp_path, template, " hi ") == '<s>userhi</s>\ngo{"a": "<é>"}'


def test_a_prompt_does_not_depend_on_the_date(tmp_path: Path) -> None:
    template = "{{ strftime_now('%d') if strftime_now is defined else '26 Jul 2024' }}"
    assert rendered(tmp_path, template) == "26 Jul 2024"


HOSTILE_TEMPLATES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a function": "{{ raise_exception.__globals__['json'] }}",
    "attribute filter": "{{ ''|attr('__class__') }}",
    "format string": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "code of a method": "{{ messages.append.__self__.__class__.__base__ }}",
    "changing its input": "{{ messages.append(1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "a module": "{% import 'os' as os %}",
    "syntax": "{% if %}",
    "unknown function": "{{ open('/etc/passwd').read() }}",
    "division": "{{ 1 // 0 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a long range": "{% for i in range(10**9) %}x{% endfor %}",
    "endless text": "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "refusal": "{{ raise_exception('no\nsuch role') }}",
    "wrong types": "{{ messages + 1 }}",
    "missing key": "{{ messages[3].content }}",
}


@pytest.mark.parametrize("name", HOSTILE_TEMPLATES)
def test_a_hostile_template_ends_in_one_line(name: str, tmp_path: Path) -> None:
    try:
        text = rendered(tmp_path, HOSTILE_TEMPLATES[name])
    except UsageError as error:
        assert "chat template" in str(error)
        assert "\n" not in str(error)
    else:
        assert text == ""  # the sandbox made the attribute undefined


# Bad files

BAD_FOLDERS = {
    "no tokenizer.json": lambda path: (path / "tokenizer.json").unlink(),
    "truncated": lambda path: (path / "tokenizer.json").write_text('{"version": "1.0", "mod'),
    "not a tokenizer": lambda path: (path / "tokenizer.json").write_text("{}"),
    "binary": lambda path: (path / "tokenizer.json").write_bytes(bytes(range(256))),
    "bad configuration": lambda path: (path / "tokenizer_config.json").write_text("[]"),
    "template of numbers": lambda path: edit_json(path / "tokenizer_config.json", chat_template=3),
    "flag of text": lambda path: edit_json(path / "tokenizer_config.json", add_bos_token="yes"),
    "unknown bos": lambda path: edit_json(
        path / "tokenizer_config.json", add_bos_token=True, bos_token="<nope>"
    ),
    "template not UTF-8": lambda path: (path / "chat_template.jinja").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_folder_ends_in_one_line(name: str, tmp_path: Path) -> None:
    BAD_FOLDERS[name](small_folder(tmp_path))
    with pytest.raises(UsageError) as error:
        read_tokenizer(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid Unicode"):
        read_tokenizer(small_folder(tmp_path)).encode("\udcff")


# Small GGUF files


def small_gguf(path: Path, **changes: Any) -> Path:
    """A byte-level vocabulary with one merge and one control token, in a GGUF without tensors."""
    letters = [*map(chr, range(33, 127)), "Ġ"]
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*letters, "hi", "<|begin|>", "<|end|>"],
        "token_type": [1] * (len(letters) + 1) + [3, 3],
        "merges": ["h i"],
        "bos_token_id": len(letters) + 1,
        "eos_token_id": len(letters) + 2,
        **changes,
    }
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        name = f"tokenizer.ggml.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_container_holds_what_was_written(tmp_path: Path) -> None:
    values = read_gguf(small_gguf(tmp_path / "t.gguf", add_bos_token=True)).values
    assert values["general.architecture"] == "llama"
    assert values["tokenizer.ggml.merges"] == ["h i"]
    assert values["tokenizer.ggml.add_bos_token"] is True


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, False),
        ({"add_bos_token": True}, True),
        ({"pre": "llama-bpe"}, True),  # Llama 3 files leave the flag out and mean it
        ({"pre": "llama-bpe", "add_bos_token": False}, False),
    ],
)
def test_a_gguf_says_whether_text_begins_with_bos(
    changes: dict[str, Any], begins: bool, tmp_path: Path
) -> None:
    tokenizer = read_tokenizer(small_gguf(tmp_path / "t.gguf", **changes))
    ids = tokenizer.encode("hi<|end|>")
    assert ids == ([96] if begins else []) + [95, 97]
    assert tokenizer.decode(ids) == "hi"


@pytest.mark.parametrize(
    ("pre", "cut"),
    [
        ("gpt-2", ["x", " 123", "+", " y"]),
        ("smollm", ["x", " ", "1", "2", "3", "+", " y"]),
        ("llama-bpe", ["x", " ", "123", "+", " y"]),
        ("qwen2", ["x", " ", "1", "2", "3", "+", " y"]),
        ("default", ["x", " ", "123", "+", " y"]),
    ],
)
def test_text_is_cut_as_the_named_pre_tokenizer_cuts_it(
    pre: str, cut: list[str], tmp_path: Path
) -> None:
    backend = read_tokenizer(small_gguf(tmp_path / "t.gguf", pre=pre)).backend
    pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str("x 123+ y")]
    assert pieces == [piece.replace(" ", "Ġ") for piece in cut]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama"}, "only byte-level BPE"),
        ({"pre": "tekken"}, "supported: gpt-2"),
        ({"pre": None}, "tokenizer.ggml.pre is missing"),
        ({"tokens": ["a", "a"]}, "the same token twice"),
        ({"tokens": [1, 2]}, "not a list of texts"),
        ({"merges": ["hi"]}, "something else than pairs"),
        ({"merges": ["h zz"]}, "do not fit its vocabulary"),
        ({"token_type": [1, 2]}, "not one entry a token"),
        ({"bos_token_id": 5000}, "not one of"),
        ({"eos_token_id": "2"}, "not one of"),
    ],
)
def test_a_bad_gguf_ends_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = small_gguf(tmp_path / "t.gguf", **changes)
    with pytest.raises(UsageError, match=message) as error:
        read_tokenizer(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
