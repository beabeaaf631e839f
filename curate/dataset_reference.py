"""References to further datasets, such as a target set, with the options they are read by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from curate.component import Component
from curate.errors import InputError
from curate.storage.plain_values import parse_yaml


class FurtherData(Component):
    """Where a further dataset is, and how it is read.

    data: whatever `curate.read` takes: a file, folder or hub id (to be written in a recipe), or a table or frame.
    columns, shape, where, split, config: as for `curate.read`. limit: a seeded sample of that many rows.
    """

    data: Any
    columns: str | dict[str, str] | None = None
    shape: str | None = None
    where: str | None = None
    split: str | None = None
    config: str | None = None
    limit: int | None = Field(default=None, ge=1)

    @property
    def reading(self) -> dict[str, Any]:
        """Options of `curate.read`."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "data"}

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.data) if isinstance(self.data, str | Path) else type(self.data).__qualname__


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
