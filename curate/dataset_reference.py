"""References to further datasets, such as a target set, with the options they are read by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from curate.component import Component
from curate.errors import InputError
from curate.storage.plain_values import parse_yaml


class FurtherData(Component):
    """Where a further dataset is, and how it is read.

    data: whatever `curate.read` takes: a file, folder or hub id (to be written in a recipe), or a table or frame.
    columns, role, shape, where, split, config: as for `curate.read`. limit: a seeded sample of that many rows.
    """

    data: Any
    columns: str | dict[str, str] | None = Field(
        default=None,
        description="what each column is, e.g. prompt=question,completion=answer,source=topic; system= "
        "switches a role off; role=from,content=value name the keys of messages",
    )
    role: tuple[str, ...] = Field(
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

    added: ClassVar[frozenset[str]] = frozenset(["role"])

    @property
    def reading(self) -> dict[str, Any]:
        """Options of `curate.read`."""
        return {name: getattr(self, name) for name in READING if name != "role" or self.role}

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.data) if isinstance(self.data, str | Path) else type(self.data).__qualname__


class FileOptions(BaseModel):
    """How a command reads the files of its DATA, beside what any dataset has; see `curate.read`."""

    on_bad_row: Literal["error", "drop"] = Field(default="error", description="what a null or non-string cell does")
    encoding: str | None = Field(default=None, description="of JSON, CSV or text files that are not UTF-8, e.g. cp1252")
    delimiter: str | None = Field(default=None, description="between the cells of a CSV file (found)")
    nested: Literal["json", "text"] = Field(
        default="json",
        description="how a result has columns of JSON: as datasets.Json, or as JSON text for datasets before 4.7",
    )


# The options by which any dataset is read.
READING = tuple(name for name in FurtherData.model_fields if name != "data")


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
        return text
    try:
        reference = parse_yaml(text, option)
    except InputError as error:
        raise InputError(f"{error}; write {{data: FILE, where: split=test}}") from error
    if not isinstance(reference, dict) or not isinstance(reference.get("data"), str):
        raise InputError(f"{option} {text}: it names no data; write {{data: FILE, where: split=test}}")
    return reference
