"""Columns of the input whose names curation gives to columns of its own: they are kept under another name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from curate.data.column_names import RESERVED
from curate.data.examples import Examples

_PREFIX = "input_"


def other_names(names: Sequence[str]) -> dict[str, str]:
    """{name that is taken: the name it is kept under}, input_NAME or the first input_NAME_2, ... that is free."""
    given: dict[str, str] = {}
    for name in names:
        if name in RESERVED:
            other, number = _PREFIX + name, 1
            while other in names or other in given.values():
                number += 1
                other = f"{_PREFIX}{name}_{number}"
            given[name] = other
    return given


def roles_here(roles: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Roles by column, where a column is named as a result of this input has it, or this is a result that has it so."""
    known = {other: name for name, other in other_names(names).items()}
    known |= {name: _PREFIX + name for name in RESERVED if _PREFIX + name in names}
    return {role: name if name in names else known.get(name, name) for role, name in roles.items()}


def renamed_columns(examples: Examples, names: Mapping[str, str]) -> Examples:
    """The examples with columns under other names."""
    columns = {role: names.get(name, name) for role, name in examples.columns.items()}
    return replace(examples, table=_renamed(examples.table, names), columns=columns)


def renaming_note(names: Mapping[str, str]) -> str:
    """A line that says so."""
    kept = ", ".join(f"{name} as {other}" for name, other in names.items())
    return f"kept under another name, since results have columns of these names: {kept}"


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    renamed = table.rename_columns([names.get(name, name) for name in table.column_names])
    metadata = dict(table.schema.metadata or {})
    if b"huggingface" in metadata:
        metadata[b"huggingface"] = _features(metadata[b"huggingface"], names)
    return renamed.replace_schema_metadata(metadata or None)


def _features(description: bytes, names: Mapping[str, str]) -> bytes:
    try:
        about: Any = json.loads(description)
        features = about["info"]["features"]
        about["info"]["features"] = {names.get(name, name): each for name, each in features.items()}
        return json.dumps(about).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return description
