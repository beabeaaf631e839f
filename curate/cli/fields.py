"""Command-line options made from the fields of components: name, type, choices, default and help stand at the field."""

from __future__ import annotations

import argparse
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curate.dataset_reference import READING, FileOptions, Reading

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


def option_of(name: str) -> str:
    """The option that sets a field: --batch-size for batch_size."""
    return "--" + name.replace("_", "-")


def add_field_options(
    group: argparse._ArgumentGroup | argparse.ArgumentParser,
    component: type[BaseModel],
    names: Iterable[str],
    metavars: Mapping[str, str] | None = None,
) -> None:
    """An option for each of the fields `names` of a component class; without it, the field has its own default.

    metavars: name -> what stands for the value in --help, where its type says too little. A field without a default is
    a required option. A field of several strings is an option to be repeated.
    """
    for name in names:
        field = component.model_fields[name]
        known = _types(field.annotation)
        options: dict[str, Any] = {"default": None, "help": _help(field)}
        choices = [value for each in known if get_origin(each) is Literal for value in get_args(each)]
        plain = [each for each in known if get_origin(each) is not Literal]
        if plain == [bool]:
            options["action"] = "store_true"
        elif any(get_origin(each) is tuple and get_args(each)[0] is str for each in plain):
            options |= {"action": "append", "metavar": "TEXT"}
        elif not plain:
            options["choices"] = choices
        else:
            simple = len(plain) == 1 and not choices and plain[0] in _METAVARS
            options["type"] = plain[0] if simple else _number_or_text if int in plain else str
            options["metavar"] = "|".join([_METAVARS.get(plain[0], "VALUE"), *choices])
        if metavars and name in metavars:
            options["metavar"] = metavars[name]
        if field.is_required():
            options["required"] = True
        group.add_argument(option_of(name), **options)


def field_values(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The fields that were set on the command line."""
    values = {name: getattr(options, name, None) for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if value is not None
    }


def add_reading_fields(group: argparse._ArgumentGroup) -> None:
    """The options by which any dataset is read."""
    add_field_options(group, Reading, READING, _READING_METAVARS)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """How DATA is read."""
    group = parser.add_argument_group("how to read DATA")
    add_reading_fields(group)
    add_field_options(group, FileOptions, FileOptions.model_fields)


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """These arguments as `curate.read` takes them."""
    files = FileOptions(**field_values(options, FileOptions.model_fields))
    return {name: getattr(options, name) for name in READING} | files.model_dump()


def _types(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without None and what Annotated adds."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [type_ for part in get_args(annotation) for type_ in _types(part) if type_ is not type(None)]
    return [annotation]


def _help(field: FieldInfo) -> str:
    assert field.description, "a field that is an option needs a description"
    nothing = field.is_required() or field.default is None or field.default is False or field.default == ()
    shown = "" if nothing else f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    default = f" ({shown})" if shown and not field.description.endswith(")") else ""
    return (field.description + default).replace("%", "%%")


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isdigit() else text
