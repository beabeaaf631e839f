"""`curate expo`: extrapolate from a base model past the model tuned from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from curate.cli.evaluate import SET_HELP, add_settings_arguments, named_sets, settings_from_options
from curate.cli.options import add_machine_arguments, add_repeatable, permissions
from curate.console.formatting import share, visible
from curate.console.printing import show
from curate.console.progress import Progress
from curate.errors import InputError
from curate.expo.extrapolation import check_alpha, write_model
from curate.expo.sources import open_models
from curate.expo.sweep import sweep
from curate.storage.places import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate expo`, but for --json, which every command has."""
    parser.add_argument("tuned", metavar="TUNED", help="folder of a fine-tuning run, adapter or model, or a hub id")
    parser.add_argument("--base", metavar="BASE", help="model it was tuned from (what the run or adapter names)")
    parser.add_argument("--base-revision", metavar="NAME", help="revision of BASE, where that is on the hub")
    parser.add_argument(
        "--alpha",
        required=True,
        metavar="A[,B...]",
        help="how far past TUNED, in steps from BASE to TUNED: 0.3 or 0.5 often works; from -1 (BASE) to 0 (TUNED) "
        "is in between; several are swept (write --alpha=-0.5,0.5 where the first is negative)",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="DIR",
        help="folder for the model; with several alphas or --evaluation DIR/alpha-A for each, all of which are kept",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the saved weights (TUNED's; float32 for an adapter)",
    )
    parser.add_argument("--fresh", action="store_true", help="replace other extrapolations in DIR")
    choice = parser.add_argument_group("which alpha is best")
    add_repeatable(
        choice,
        "--evaluation",
        "DATA",
        f"evaluate every alpha and TUNED on this (repeatable): {SET_HELP}; not what you will report on",
    )
    choice.add_argument("--by", choices=("accuracy", "nll"), help="metric of the best (accuracy if answers are drawn)")
    choice.add_argument("--limit", type=int, metavar="N", help="a seeded sample of N rows of each set")
    add_settings_arguments(parser)
    add_machine_arguments(parser, "of evaluations: ")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Extrapolate; returns the object that --json prints."""
    alphas = _alphas(options.alpha)
    settings = settings_from_options(options)
    allowed = permissions(options)
    sets = named_sets(options.evaluation, "--evaluation", limit=options.limit, seed=settings.seed, allowed=allowed)
    if options.by and not sets:
        raise InputError("--by chooses by an evaluation; name one with --evaluation DATA")
    progress = Progress("auto")
    with progress.stage("look up"):
        models = open_models(
            options.tuned,
            options.base,
            revision=options.revision,
            base_revision=options.base_revision,
            trust_remote_code=options.trust_remote_code,
        )
    shared: dict[str, Any] = {"dtype": options.dtype, "fresh": options.fresh, "progress": progress}
    if len(alphas) == 1 and not sets:
        record = write_model(models, alphas[0], options.out, **shared)
        if not options.json:
            _print_one(record, options.out)
        return {"directory": str(options.out), **record}
    record = sweep(
        models,
        alphas,
        options.out,
        sets=sets,
        settings=settings,
        by=options.by,
        cache=options.cache,
        device=options.device,
        **shared,
    )
    if not options.json:
        _print_sweep(record, options.out)
    return {"directory": str(options.out), **record}


def _alphas(text: str) -> list[float]:
    try:
        return [check_alpha(float(part)) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--alpha {text}: give numbers, such as 0.3 or 0.1,0.3,0.5") from error


def _print_one(record: dict[str, Any], out: Path) -> None:
    relative = record["norm_change"] / record["norm_tuned"] if record["norm_tuned"] else 0.0
    tensors = record["tensors"]
    show(
        f"{tensors['extrapolated']:,} tensors extrapolated, {tensors['copied']:,} taken as they are; tuning had moved "
        f"the weights by {relative:.3g} of their norm",
        f"model -> {visible(str(out))}",
    )


def _print_sweep(record: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    points = record["points"]
    names = list(points[0].get("sets", {}))
    table = Table()
    for column in ("alpha", "rows", "accuracy", "nats/token") if names else ("alpha", "model"):
        table.add_column(column, justify="left" if column in ("alpha", "model") else "right")
    for point in points:
        label = f"{point['alpha']:g}" + (" (tuned)" if point["alpha"] == 0 else "")
        if not names:
            table.add_row(label, visible(point["model"]))
            continue
        table.add_row(label, *_cells(point))
        for name in names if len(names) > 1 else ():
            table.add_row(f"  {visible(name)}", *_cells(point["sets"][name]))
    lines = []
    if names:
        metric_name = {"accuracy": "accuracy", "nll": "nats per token"}[record["by"]]
        lines.append(f"best {metric_name} over all rows: alpha = {record['best']:g}")
        if record["best"] == max(point["alpha"] for point in points) > 0:
            lines.append("it is the largest that was tried: a larger one may be better still")
        lines.append("it was chosen on these rows, so measure what it gains on others (a test set not named here)")
    show(table, *lines, f"models -> {visible(str(out))}")


def _cells(totals: dict[str, Any]) -> tuple[str, str, str]:
    """Rows, accuracy and nll of an evaluation's totals as table cells, empty if not measured."""
    accuracy, nll = totals["accuracy"], totals["nll"]
    return f"{totals['rows']:,}", "" if accuracy is None else share(accuracy), "" if nll is None else f"{nll:.4f}"
