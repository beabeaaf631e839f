"""`curate weigh`: add the weights that fine-tuning runs learned to a dataset."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from curate.cli.fields import add_reading_arguments, reading
from curate.console.formatting import count, decimal, share, visible
from curate.console.printing import say, show
from curate.console.progress import Progress
from curate.storage.folders import check_directory
from curate.storage.places import local_path
from curate.weighted_dataset import add_weights, check_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate weigh`, but for --json, which every command has."""
    parser.add_argument("data", metavar="DATA", help="what the runs were trained on: a file, folder or hub dataset id")
    parser.add_argument(
        "--weights",
        required=True,
        action="extend",
        nargs="+",
        type=local_path,
        metavar="RUN|FILE",
        help="folders of `curate finetune --reweighter ...`, or their weights.parquet; of several the mean",
    )
    parser.add_argument("--out", required=True, type=local_path, metavar="DIR", help="folder for the result")
    parser.add_argument("--normalize", action="store_true", help="divide by the mean over the rows, which is then 1")
    parser.add_argument("--normalise", action="store_true", help=argparse.SUPPRESS)  # spelling of an earlier release
    parser.add_argument("--fresh", action="store_true", help="replace a result of other inputs in DIR")
    add_reading_arguments(parser)


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Join the weights to the rows and write them; returns the object that --json prints."""
    if options.normalise:
        warnings.warn("--normalise is called --normalize now; rename it", stacklevel=2)
    progress = Progress()
    check_place(options.data, options.out)
    with progress.stage("read"):
        weighted = add_weights(
            options.data, options.weights, normalize=options.normalize or options.normalise, **reading(options)
        )
    for note in weighted.loaded.notes:
        progress.note(visible(f"  {note}"))
    done = check_directory(options.out, weighted.inputs, fresh=options.fresh)
    if done:
        progress.note(f"{options.out} already holds the result of these inputs; nothing to do (--fresh rewrites it)")
    else:
        weighted.write(options.out)
    record = weighted.record()
    result = {
        "directory": str(options.out),
        "data": str(options.out / "data"),
        **{name: record[name] for name in ("counts", "weights", "averages", "runs", "normalized", "warnings")},
        "done_before": done,
    }
    if not options.json and not done:
        _print(result)
    return result


def _print(result: dict[str, Any]) -> None:
    counts, weights, runs = result["counts"], result["weights"], result["runs"]
    runs_text = "1 run" if len(runs) == 1 else f"the mean of {len(runs)} runs"
    lines = [
        f"{count(counts['output'])} rows weighted by {runs_text}: mean {decimal(weights['mean'])}, "
        f"{decimal(weights['smallest'])} to {decimal(weights['largest'])}, effective share of the rows "
        f"{share(weights['effective_share'])}"
    ]
    if counts["not_drawn"]:
        lines.append(f"  drawn in no run: {count(counts['not_drawn'])} rows, which have the mean weight")
    if counts["drawn_by_some"]:
        lines.append(f"  drawn in some runs only: {count(counts['drawn_by_some'])} rows; the other runs say their mean")
    lines += [visible(f"  warning: {warning['message']} {warning['remedy']}") for warning in result["warnings"]]
    averages = " --set reweighter.averages=rows" if result["averages"] == "rows" else ""
    command = f"curate finetune {result['directory']} --reweighter GivenWeights{averages} --model MODEL --out RUN"
    show(*lines)
    say(
        f"dataset  {result['data']}   (datasets.load_dataset({result['directory']!r}))",
        f"next: {command}",
    )
