"""`curate compare`: compare the arms of several fine-tuning runs, with confidence intervals."""

from __future__ import annotations

import argparse
from typing import Any

from curate.cli.comparison_table import print_comparison
from curate.comparison.compare import compare
from curate.comparison.page import check_report
from curate.console.formatting import visible
from curate.console.printing import show
from curate.storage.places import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate compare`, but for --json, which every command has."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="evaluated folders of `curate finetune`, of two arms or more"
    )
    parser.add_argument("--baseline", metavar="ARM", help="the arm that the others are held against (original)")
    parser.add_argument(
        "--sets", metavar="NAME,NAME", help="evaluation sets to compare on (all that every run was evaluated on)"
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="page with plots and examples, beside it comparison.json",
    )
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)  # accepted for earlier scripts: nothing is random


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the runs; returns the object that --json prints."""
    if options.out is not None:
        check_report(options.out)
    sets = None if options.sets is None else [name.strip() for name in options.sets.split(",") if name.strip()]
    comparison = compare(options.runs, options.baseline, sets=sets)
    result = comparison.to_json()
    if options.out is not None:
        comparison.write(options.out)
        result = {**result, "report": str(options.out)}
    if not options.json:
        print_comparison(result)
        if options.out is not None:
            show(f"report   {visible(str(options.out))}")
    return result
