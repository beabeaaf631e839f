"""`curate init`: write a commented recipe for a dataset and print the command that runs it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from curate.cli.fields import add_reading_arguments, reading
from curate.console.formatting import one_line
from curate.console.printing import say
from curate.data.column_names import OPTIONAL_CONTENT
from curate.data.columns import is_column_role
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.storage.atomic import publish_file
from curate.storage.places import check_place, local_path, without_secrets

_LOOKED_AT = 2_000  # rows used to recognize the columns, unless --limit says otherwise

_RECIPE = """\
# A recipe for {data}: {found}.
# Look at what a run would cost, try it on 200 rows, then run it:
#
#   curate plan {shown} --recipe {recipe}{options}
#   curate run {shown} --recipe {recipe}{options} --out curated --preview 200
#   curate run {shown} --recipe {recipe}{options} --out curated

# The small model that is trained briefly, and measured along the way.
proxy:
  model: {model}   # a hub id, a folder, a GGUF file, or scratch: a tiny model made from the data, without any download
  steps: 1/3 epoch   # how long it is trained: passes over the data, but at least {floor} steps; or a number of steps
  checkpoints: 5   # how often every row's loss is measured on the way

# What makes a row hard; `curate list scorers` has the others.
scorer: {{use: LossTrajectory, features: absolute}}

# How rows are grouped by that; `curate list clusterers` has the others.
clusterer: {{use: KMeans, n_clusters: 2{per}}}

# Which groups are hard: the one of highest loss (highest), the m of highest loss (a number), or above_mean.
hard: highest

# What is done about it; `curate list augmenters` has the others. times counts the extra copies: 1 = shown twice.
augmenters:
  - {{use: Duplicate, times: 1}}

# Everything random comes from this number.
seed: 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate init`."""
    parser.add_argument("data", metavar="DATA", help="the data for `curate run`: a file, folder, glob or hub id")
    parser.add_argument(
        "--out", type=local_path, default=Path("recipe.yaml"), metavar="FILE", help="the recipe (recipe.yaml)"
    )
    parser.add_argument("--proxy", default="scratch", metavar="MODEL", help="the proxy that the recipe names (scratch)")
    parser.add_argument("--fresh", action="store_true", help="replace FILE")
    add_reading_arguments(parser)


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate init`: inspect the data and write the recipe."""
    if options.out.exists() and not options.fresh:
        raise InputError(f"{options.out} exists; name another with --out, or replace it with --fresh")
    check_place(options.out)
    options.limit = options.limit or _LOOKED_AT
    loaded = read(options.data, **reading(options))
    text = recipe_for(loaded.examples, without_secrets(options.data), options.out, options.proxy)
    Pipeline.from_yaml(text)  # check that the recipe can be read
    publish_file(options.out, text)
    if not options.json:
        commands = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#   curate")]
        say(f"{options.out}: {_found(loaded.examples)}", *commands)
    return {"recipe": str(options.out), "shape": loaded.examples.shape, "columns": dict(loaded.examples.columns)}


def recipe_for(examples: Examples, data: str, path: Path, proxy: str) -> str:
    """The text of a recipe for these examples, which were read from `data`, to be saved at `path`."""
    columns = _columns(examples)
    return _RECIPE.format(
        data=one_line(data),
        found=_found(examples),
        shown=shlex.quote(data),
        recipe=shlex.quote(str(path)),
        options=f" --shape {examples.shape} --columns {shlex.quote(columns)}" if columns else "",
        model=one_line(proxy, 200),
        floor=Proxy(model=proxy).least_steps,
        per=", per: source" if "source" in examples.columns else "",
    )


def _columns(examples: Examples) -> str:
    """The recognized columns in the form that --columns takes; "" if a name cannot be written in it."""
    roles = [role for role in examples.columns if is_column_role(role) and role not in ("chosen", "rejected", "label")]
    known_columns = {*examples.content_roles, *OPTIONAL_CONTENT, "id", "source", "final_answer"}
    pairs = {role: examples.columns[role] for role in roles if role in known_columns}
    if examples.made is not None or any(set(name) & set(",=\n") for name in pairs.values()):
        return ""
    return ",".join(f"{role}={name}" for role, name in pairs.items())


def _found(examples: Examples) -> str:
    """What was recognized, as reading data says it."""
    roles = ", ".join(f"{role}={one_line(name, 40)}" for role, name in examples.columns.items() if is_column_role(role))
    return f"shape {examples.shape}: {roles}"
