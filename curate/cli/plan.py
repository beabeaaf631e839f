"""`curate plan`: estimate what a run would cost and show which parts are cached."""

from __future__ import annotations

import argparse
from typing import Any

from curate.cli.steps import (
    add_data_arguments,
    add_generator_arguments,
    loaded_from,
    new_progress,
    pipeline_from,
    run_from,
    scores_from,
)
from curate.console.printing import show
from curate.estimate import estimate
from curate.storage.destination import result_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate plan`."""
    add_data_arguments(parser)
    add_generator_arguments(parser)
    parser.add_argument(
        "--out", type=result_place, metavar="DIR", help="as for run; also shows whether the result already exists"
    )


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate plan`: estimate what a run would cost and show which parts are cached."""
    pipeline, progress = pipeline_from(options), new_progress()
    loaded = loaded_from(options, pipeline, progress)
    scores = scores_from(options, pipeline, loaded, progress)
    result = estimate(pipeline, loaded, run_from(options, pipeline, progress), scores=scores, out=options.out)
    if not options.json:
        _print_plan(result)
    return result


def _print_plan(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="What this run would do", title_justify="left")
    for name in ("stage", "work", "tokens", "time", "disk", "in the cache"):
        table.add_column(name, justify="left" if name in ("stage", "work") else "right")
    for stage in result["stages"]:
        table.add_row(
            stage["stage"],
            stage["work"],
            f"{stage['tokens']:,}" if stage["tokens"] else "",
            _duration(stage["seconds"]),
            _size(stage["bytes"]),
            stage["cached"],
        )
    show(table, *result["notes"])


def _duration(seconds: float | None) -> str:
    if not seconds:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: int | None) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"
