"""References to further datasets, such as a target set, with the options they are read by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from curate.component import Component
from curate.errors import InputError
from curate.storage.plain_values import parse_yaml
from curate.storage.remote import holds_signature, without_secrets


def role_pieces(value: Any) -> Any:
    """What `role` says as NAME=ROLE pieces, also where one text or a mapping says it."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={target}" for name, target in value.items())
    return (value,) if isinstance(value, str) else value


class Reading(Component):
    """How a dataset is read, wherever one is named: options of commands, of recipes and of evaluation sets.

    All of it as for `curate.read`. columns: {role: column}, or the same as text. role: what speakers in messages are,
    {bot: assistant} or bot=assistant. limit: a seeded sample of that many rows.
    """

    columns: str | dict[str, str] | None = Field(
        default=None,
        description="what each column is, e.g. prompt=question,completion=answer,source=topic; system= "
        "switches a role off; role=from,content=value name the keys of messages",
    )
    role: Annotated[tuple[str, ...], BeforeValidator(role_pieces)] = Field(
        default=(),
        description="what a speaker in messages is, e.g. bot=assistant: user, assistant, system, developer, tool or "
        "function_call; repeat for several",
    )
    shape: str | None = Field(
        default=None, description="prompt_completion, instruction, question_answer, messages, text, preference or kto"
    )
    config: str | None = Field(default=None, description="configuration of a folder or hub dataset that has several")
    split: str | None = Field(default=None, description="split to read where data is stored by split (train)")
    where: str | None = Field(default=None, description="keep only these rows, e.g. split=train,level!=5")
    limit: int | None = Field(default=None, ge=1, description="a seeded sample of N rows")
    encoding: str | None = Field(default=None, description="of JSON, CSV or text files that are not UTF-8, e.g. cp1252")
    delimiter: str | None = Field(default=None, description="between the cells of a CSV file (found)")

    added: ClassVar[frozenset[str]] = frozenset(["role", "encoding", "delimiter"])

    @property
    def reading(self) -> dict[str, Any]:
        """Options of `curate.read`, those that are set."""
        values = {name: getattr(self, name) for name in READING}
        return {name: value for name, value in values.items() if value not in (None, ())}


# The options by which any dataset is read.
READING = tuple(Reading.model_fields)


class FurtherData(Reading):
    """Where a further dataset is, and how it is read.

    data: whatever `curate.read` takes: a file, folder or hub id (to be written in a recipe), or a table or frame.
    """

    data: Any

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.data) if isinstance(self.data, str | Path) else type(self.data).__qualname__


_OPTION = re.compile(rf"--({'|'.join(READING)})\b")
_EXAMPLES = {
    "columns": "{prompt: COLUMN, completion: COLUMN}",
    "role": "bot=assistant",
    "where": "split=test",
    "limit": "N",
    "delimiter": "';'",
}


def in_braces(message: str) -> str:
    """A message of `curate.read` about a dataset that is named in braces, where its options are no options."""
    named = dict.fromkeys(_OPTION.findall(message))
    form = ", ".join(f"{name}: {_EXAMPLES.get(name, 'NAME')}" for name in named)
    said = _OPTION.sub(lambda found: found[1], message)
    return f"{said} (written {{data: FILE, {form}}})" if named else message


class FileOptions(BaseModel):
    """What a command says of its DATA alone, beside what any dataset has; see `curate.read`."""

    on_bad_row: Literal["error", "drop"] = Field(default="error", description="what a null or non-string cell does")
    nested: Literal["json", "text"] = Field(
        default="json",
        description="how a result has columns of JSON: as datasets.Json, or as JSON text for datasets before 4.7",
    )


def _wrapped(value: Any) -> Any:
    """A bare dataset as FurtherData; a mapping with `data` is its parameters."""
    if isinstance(value, FurtherData) or (isinstance(value, dict) and "data" in value):
        return value
    return FurtherData(data=value)


# The type of a field that takes a dataset, or one with the options it is read by.
GivenData = Annotated[FurtherData, BeforeValidator(_wrapped)]


def named_dataset(text: str, option: str) -> str | dict[str, Any]:
    """A dataset as it is named on the command line: its name, or reading options as a YAML mapping."""
    if not text.startswith("{"):
        _check_recorded(text, option)
        return text
    try:
        reference = parse_yaml(text, option)
    except InputError as error:
        raise InputError(f"{error}; write {{data: FILE, where: split=test}}") from error
    if not isinstance(reference, dict) or not isinstance(reference.get("data"), str):
        raise InputError(f"{option} {text}: it names no data; write {{data: FILE, where: split=test}}")
    _check_recorded(reference["data"], option)
    return reference


def _check_recorded(data: str, option: str) -> None:
    if holds_signature(data):
        raise InputError(
            f"{option} {without_secrets(data)}: its query gives access, and results record what they were held "
            "against; download the file and name that"
        )
