"""Files that a user hands over: bounded reading, and TOML checked against a model.

Every complaint is one line that names file, key and reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tpubench.errors import UsageError
from tpubench.results.toml_file import LEAST as LEAST
from tpubench.results.toml_file import key_path, printable, read_document
from tpubench.results.toml_file import read_text as read_text

SHOWN_ERRORS = 3


class Checked(BaseModel):
    """Base of every table of such a file: no unknown keys, no silent conversion, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


Model = TypeVar("Model", bound=Checked)


def read_toml(path: Path, model: type[Model]) -> Model:
    """The file as ``model``; UsageError with file, key and reason when it is not one."""
    content = read_document(path)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(path, error)) from None


def explain(path: Path, error: ValidationError) -> str:
    """One line for a failed check: the first complaints by key, and how many more there are."""
    complaints = [
        f"{key_path(fault['loc'])}: {printable(_plainly(fault['type'], fault['msg']))}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    more = len(complaints) - SHOWN_ERRORS
    tail = f" (and {more} more)" if more > 0 else ""
    return f"{path}: {'; '.join(complaints[:SHOWN_ERRORS])}{tail}"


def _plainly(kind: str, message: str) -> str:
    """A complaint of the checker in words of a user."""
    if kind == "extra_forbidden":
        return "there is no such key"
    return message.removeprefix("Value error, ")
