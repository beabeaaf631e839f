"""Reweighters by name, as recipes and commands write them."""

from __future__ import annotations

from typing import Any

from curate.recipe import built_in, decode

__all__ = ["reweighter_from", "reweighter_name"]


def reweighter_from(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """A reweighter from a plain YAML value: its name, or a mapping with `use` and its parameters.

    path: where the value stands, for errors. allowed: further packages that `use` may lead into. Raises InputError.
    """
    value = {"use": value} if isinstance(value, str) else value
    if isinstance(value, dict):
        name = value.get("use")
        if isinstance(name, str) and "." not in name:
            from curate import reweighters

            value = value | {"use": built_in(reweighters, name, "reweighter")}
    return decode(value, path, allowed)


def reweighter_name(reweighter: Any) -> str:
    """Short name of a reweighter for arms and tables: dynamicloss, irdro."""
    return type(reweighter).__name__.lower()
