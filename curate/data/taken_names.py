"""Rename input columns whose names are reserved for columns that curation adds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_names import RESERVED
from curate.data.columns import is_text
from curate.data.examples import Examples
from curate.errors import InputError

_PREFIX = "input_"
_CURATED = frozenset(["example_id", "source_id", "origin", "copy"])  # what every result has


def check_no_copies(table: pa.Table, description: str, where: str | None) -> None:
    """InputError for the copies of a result: each would count as a separate row. where: conditions given so far."""
    if not {*table.column_names} >= _CURATED or not pa.types.is_integer(table.schema.field("copy").type):
        return
    copies = pc.sum(pc.greater(table["copy"], 0)).as_py() or 0
    if copies:
        conditions = ",".join([*([where] if where else []), "copy=0"])
        raise InputError(
            f"{description} was curated before, and {copies:,} of its {table.num_rows:,} rows are copies; leave them "
            f"out with --where '{conditions}', or curate the data that it was made from"
        )


def holds_ids(table: pa.Table) -> bool:
    """Whether `example_id` may be the id of the rows: where no other column is called like one."""
    names = table.column_names
    if "example_id" not in names or not {"id", "uuid"}.isdisjoint(name.casefold() for name in names):
        return False
    kind = table.schema.field("example_id").type
    return bool(is_text(kind) or pa.types.is_integer(kind))


def other_names(names: Sequence[str]) -> dict[str, str]:
    """{reserved name: new name} of the columns; input_NAME, or the first of input_NAME_2, ... that is free."""
    kept_as: dict[str, str] = {}
    for name in names:
        if name in RESERVED:
            candidate, number = _PREFIX + name, 1
            while candidate in names or candidate in kept_as.values():
                number += 1
                candidate = f"{_PREFIX}{name}_{number}"
            kept_as[name] = candidate
    return kept_as


def roles_here(roles: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Translate {role: column} between names before and after `other_names`, if the column is missing.

    Users may refer to the name in the input or in a result, and read either.
    """
    original_names = {new_name: name for name, new_name in other_names(names).items()}
    original_names |= {name: _PREFIX + name for name in RESERVED if _PREFIX + name in names}
    return {role: name if name in names else original_names.get(name, name) for role, name in roles.items()}


def renamed_columns(examples: Examples, names: Mapping[str, str]) -> Examples:
    """The examples with columns under other names."""
    columns = {role: names.get(name, name) for role, name in examples.columns.items()}
    return replace(examples, table=_renamed(examples.table, names), columns=columns)


def renaming_note(names: Mapping[str, str]) -> str:
    """The note about renamed columns."""
    renamed = ", ".join(f"{name} as {new_name}" for name, new_name in names.items())
    return f"kept under another name, since results have columns of these names: {renamed}"


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    renamed = table.rename_columns([names.get(name, name) for name in table.column_names])
    metadata = dict(table.schema.metadata or {})
    if b"huggingface" in metadata:
        metadata[b"huggingface"] = _features(metadata[b"huggingface"], names)
    return renamed.replace_schema_metadata(metadata or None)


def _features(description: bytes, names: Mapping[str, str]) -> bytes:
    try:
        content: Any = json.loads(description)
        features = content["info"]["features"]
        content["info"]["features"] = {names.get(name, name): feature for name, feature in features.items()}
        return json.dumps(content).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return description
