"""Command-line options from the fields of components, which give name, type, choices, default and help."""

from __future__ import annotations

import argparse
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curate.dataset_reference import READING, FileOptions, Reading
from curate.recipe import component_names

_METAVARS = {int: "N", float: "X", str: "TEXT"}
_READING_METAVARS = {
    "columns": "ROLE=COLUMN,...",
    "role": "NAME=ROLE",
    "shape": "SHAPE",
    "where": "COLUMN=VALUE,...",
    "config": "NAME",
    "split": "NAME",
    "limit": "N",
    "encoding": "NAME",
    "delimiter": "CHARACTER",
}


def offered(module: str) -> str:
    """The names of a module's components, for help texts."""
    return ", ".join(name.lower() for name in component_names(module))


def option_of(name: str) -> str:
    """The option that sets a field: --batch-size for batch_size."""
    return "--" + name.replace("_", "-")


def options_of(component: type[BaseModel], without: Collection[str] = ()) -> tuple[str, ...]:
    """The fields of a component class that are options: those with a description, in the order of the class."""
    return tuple(name for name, field in component.model_fields.items() if field.description and name not in without)


def is_range(field: FieldInfo) -> bool:
    """Whether a field holds a pair of integers, written LOW-HIGH on the command line."""
    return tuple[int, int] in _types(field.annotation)


def add_field_options(
    group: argparse._ArgumentGroup | argparse.ArgumentParser,
    component: type[BaseModel],
    names: Iterable[str],
    metavars: Mapping[str, str] | None = None,
    prefix: str = "",
) -> None:
    """Add one option per field in `names` of a component class; an option left out keeps the default of its field.

    metavars: field -> placeholder in --help, where the type says too little. A field without a default becomes a
    required option. A field that holds several strings becomes an option that can be repeated.
    prefix: of the names of the options, for the fields of a part: "lora_" for --lora-rank.
    """
    for name in names:
        field = component.model_fields[name]
        value_types = _types(field.annotation)
        options: dict[str, Any] = {"default": None, "help": _help(field)}
        choices = [value for kind in value_types if get_origin(kind) is Literal for value in get_args(kind)]
        plain = [kind for kind in value_types if get_origin(kind) is not Literal]
        if plain == [bool]:
            options["action"] = "store_true"
        elif any(get_origin(kind) is tuple and get_args(kind)[0] is str for kind in plain):
            options |= {"action": "append", "metavar": "TEXT"}
        elif not plain:
            options["choices"] = choices
        else:
            simple = len(plain) == 1 and not choices and plain[0] in _METAVARS
            options["type"] = plain[0] if simple else _number_or_text if int in plain else str
            options["metavar"] = "|".join([_METAVARS.get(plain[0], "VALUE"), *choices])
        if is_range(field):
            options["metavar"] = "LOW-HIGH"
        if metavars and name in metavars:
            options["metavar"] = metavars[name]
        if field.is_required():
            options["required"] = True
        group.add_argument(option_of(prefix + name), **options)


def field_values(options: argparse.Namespace, names: Iterable[str], prefix: str = "") -> dict[str, Any]:
    """The fields that were set on the command line, by name. prefix: see `add_field_options`."""
    values = {name: getattr(options, prefix + name, None) for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }


def add_reading_fields(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how any dataset is read."""
    add_field_options(group, Reading, READING, _READING_METAVARS)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how DATA is read."""
    group = parser.add_argument_group("how to read DATA")
    add_reading_fields(group)
    add_field_options(group, FileOptions, FileOptions.model_fields)


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """The reading options as keyword arguments of `curate.read`."""
    files = FileOptions(**field_values(options, FileOptions.model_fields))
    return {name: getattr(options, name) for name in READING} | files.model_dump()


def _types(annotation: Any) -> list[Any]:
    """The alternatives of a union annotation, without None and without the metadata of Annotated."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [type_ for part in get_args(annotation) for type_ in _types(part) if type_ is not type(None)]
    return [annotation]


def _help(field: FieldInfo) -> str:
    """Help text of a field's option: its description, with the default unless that is empty."""
    assert field.description, "a field that is an option needs a description"
    nothing = field.is_required() or field.default is None or field.default is False or field.default == ()
    default_text = "" if nothing else f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    default = f" ({default_text})" if default_text and not field.description.endswith(")") else ""
    return (field.description + default).replace("%", "%%")


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isdigit() else text
