"""`curate list`: list the available recipes, components and file formats with a one-line description."""

from __future__ import annotations

import argparse
from importlib import resources
from typing import Any

from curate.console.printing import show
from curate.data.known_formats import FORMATS
from curate.recipe import component_names, own_module, recipe_names

_MODULES = {
    "scorers": "scorers",
    "augmenters": "augmenters",
    "clusterers": "curate.clusterers",
    "reweighters": "curate.reweighters",
    "optimizers": "curate.optimizers",
    "generators": "curate.generators",
    "graders": "curate.graders",
}
KINDS = ("recipes", *_MODULES, "formats")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate list`."""
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate list`: names and one-line descriptions."""
    components = listed(options.kind)
    if not options.json:
        _print(components)
    return {options.kind: components}


def listed(kind: str) -> dict[str, str]:
    """Name -> first sentence of its description, in alphabetical order."""
    if kind == "recipes":
        return {name: _sentence(_comment(name)) for name in recipe_names()}
    if kind == "formats":
        return {file_format.name: f"{', '.join(file_format.suffixes)}: {file_format.about}" for file_format in FORMATS}
    module = own_module(_MODULES[kind])
    return {name: _sentence(getattr(module, name).__doc__ or "") for name in component_names(_MODULES[kind])}


def _comment(recipe: str) -> str:
    """The comment at the head of a shipped recipe."""
    text = (resources.files("curate") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _sentence(text: str) -> str:
    """The first sentence of the first paragraph, without its period."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def _print(components: dict[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in components.items():
        table.add_row(name, text)
    show(table)
