"""The packages beside this one that recipes name components of, told from others that are called the same."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from curate.errors import InputError

__all__ = ["own_module"]


def own_module(name: str) -> Any:
    """The module of that full name, of `curate`, `scorers` or `augmenters`.

    Raises InputError where a package of the user's hides ours; nothing of it has been run then.
    """
    _check_ours(name.partition(".")[0])
    return importlib.import_module(name)


def _check_ours(package: str) -> None:
    root = Path(__file__).resolve().parents[1]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # one that a caller has put into sys.modules by hand
        spec = None
    if spec is None:
        raise InputError(f"the package {package} of curate is missing; install curate-lm again")
    places = list(spec.submodule_search_locations or ()) or [spec.origin or package]
    if any(Path(place).resolve() == root / package for place in places):
        return
    found = Path(places[0]).absolute()
    named = [Path(each).absolute() for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    remedy = f"take {found.parent} out of PYTHONPATH" if found.parent in named else "run the command in another folder"
    raise InputError(f"{found} hides the package {package} of curate, which has the same name; rename it, or {remedy}")
