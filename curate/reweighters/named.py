"""Reweighters by name, as recipes and commands write them."""

from __future__ import annotations

from typing import Any

from curate.component import Component
from curate.errors import InputError
from curate.recipe import decode

__all__ = ["reweighter_from", "reweighter_name"]


def reweighter_from(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """A reweighter from a plain YAML value: its name, or a mapping with `use` and its parameters.

    path: where the value stands, for errors. allowed: further packages that `use` may lead into. Raises InputError.
    """
    value = {"use": value} if isinstance(value, str) else value
    if isinstance(value, dict):
        name = value.get("use")
        if isinstance(name, str) and "." not in name:
            value = value | {"use": _dotted(name)}
    return decode(value, path, allowed)


def reweighter_name(reweighter: Any) -> str:
    """Short name of a reweighter for arms and tables: dynamicloss, irdro."""
    return type(reweighter).__name__.lower()


def _dotted(name: str) -> str:
    from curate import reweighters

    public = {each: getattr(reweighters, each) for each in reweighters.__all__}
    known = [each for each, kind in public.items() if isinstance(kind, type) and issubclass(kind, Component)]
    exact = next((each for each in known if each.lower() == name.lower()), None)
    if exact is None:
        raise InputError(f"there is no reweighter {name!r}; choose one of {', '.join(sorted(known))}")
    return f"curate.reweighters.{exact}"
