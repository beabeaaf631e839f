"""References to further datasets, such as a target set, with their reading options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from curate.component import Component
from curate.data.column_names import PAIR_SHAPES, SHAPES
from curate.data.known_formats import DELIMITED, ENCODED
from curate.data.turns import TARGETS
from curate.data.wording import alternatives
from curate.errors import InputError
from curate.storage.places import holds_signature, without_secrets
from curate.storage.plain_values import parse_yaml


def role_pieces(value: Any) -> Any:
    """Convert `role`, a text, a mapping or a sequence, to a tuple of NAME=ROLE pieces."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={target}" for name, target in value.items())
    return (value,) if isinstance(value, str) else value


class Reading(Component):
    """Options for reading a dataset, shared by commands, recipes and evaluation sets.

    As for `curate.read`. columns: {role: column}, or the same as text. role: roles of speakers in messages,
    {bot: assistant} or bot=assistant. limit: size of a seeded sample.
    """

    columns: str | dict[str, str] | None = Field(
        default=None,
        description="what each column is, e.g. prompt=question,completion=answer,source=topic; system= "
        "switches a role off; role=from,content=value name the keys of messages",
    )
    role: Annotated[tuple[str, ...], BeforeValidator(role_pieces)] = Field(
        default=(),
        description=f"what a speaker in messages is, e.g. bot=assistant: {alternatives(TARGETS)}; repeat for several",
    )
    shape: str | None = Field(default=None, description=alternatives((*SHAPES, *PAIR_SHAPES)))
    config: str | None = Field(default=None, description="configuration of a folder or hub dataset that has several")
    split: str | None = Field(default=None, description="split to read where data is stored by split (train)")
    where: str | None = Field(default=None, description="keep only these rows, e.g. split=train,level!=5")
    limit: int | None = Field(default=None, ge=1, description="a seeded sample of N rows")
    encoding: str | None = Field(
        default=None, description=f"of {alternatives(ENCODED)} files that are not UTF-8, e.g. cp1252"
    )
    delimiter: str | None = Field(default=None, description=f"delimiter of {alternatives(DELIMITED)} files (detected)")

    added: ClassVar[frozenset[str]] = frozenset(["role", "encoding", "delimiter"])

    @property
    def reading(self) -> dict[str, Any]:
        """The options of `curate.read` that are set."""
        values = {name: getattr(self, name) for name in READING}
        return {name: value for name, value in values.items() if value not in (None, ())}


# Names of all reading options.
READING = tuple(Reading.model_fields)


class FurtherData(Reading):
    """A further dataset and its reading options.

    data: anything that `curate.read` takes: a file, folder or hub id (the only forms in a recipe), a table or a frame.
    """

    data: Any

    @property
    def name(self) -> str:
        """Name of the dataset in messages."""
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
    """Rewrite a message of `curate.read` for a dataset given as {data: ..., ...}: option names become keys."""
    options = dict.fromkeys(_OPTION.findall(message))
    form = ", ".join(f"{name}: {_EXAMPLES.get(name, 'NAME')}" for name in options)
    text = _OPTION.sub(lambda option: option[1], message)
    return f"{text} (written {{data: FILE, {form}}})" if options else message


class FileOptions(BaseModel):
    """Options of a command's DATA in addition to `Reading`; see `curate.read`."""

    on_bad_row: Literal["error", "drop"] = Field(default="error", description="how to handle null or non-string cells")
    nested: Literal["json", "text"] = Field(
        default="json",
        description="write JSON columns as datasets.Json, or as JSON text for datasets before 4.7",
    )


def _wrapped(value: Any) -> Any:
    """Wrap a bare dataset in FurtherData; a mapping with `data` holds its parameters and is returned unchanged."""
    if isinstance(value, FurtherData) or (isinstance(value, dict) and "data" in value):
        return value
    return FurtherData(data=value)


# Type of a field that takes a dataset, with or without reading options.
GivenData = Annotated[FurtherData, BeforeValidator(_wrapped)]


def named_dataset(text: str, option: str) -> str | dict[str, Any]:
    """Parse a dataset on the command line: a name, or a YAML mapping with reading options."""
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
