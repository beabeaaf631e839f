"""`curate diff`: compare two finished runs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from curate.console.formatting import correlation, count, decimal, one_line, share
from curate.console.printing import show
from curate.report.run_difference import run_difference
from curate.storage.places import local_path

_SHOWN_ROWS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate diff`."""
    parser.add_argument("first", type=local_path, metavar="A", help="a folder that `curate run` wrote")
    parser.add_argument("second", type=local_path, metavar="B", help="another one")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate diff`: compare rows, mixture and recipes of two runs."""
    difference = run_difference(options.first, options.second)
    if not options.json:
        show("\n".join(_lines(difference)))
    return difference


def _lines(difference: dict[str, Any]) -> list[str]:
    rows, sides = difference["rows"], difference["sides"]
    changed = sides["only_first"] + sides["only_second"]
    lines = [
        f"A = {difference['first']}, B = {difference['second']}",
        f"rows: {count(rows['in_both'])} in both, {count(rows['only_first'])} only in A, "
        f"{count(rows['only_second'])} only in B",
        f"changed sides: {count(changed)}; hard in both {count(sides['hard_in_both'])}, only in A "
        f"{count(sides['only_first'])}, only in B {count(sides['only_second'])}",
        f"agreement: {share(difference['jaccard'])} of the rows that either calls hard are hard in both; "
        f"difficulties have a rank correlation of {correlation(difference['rank_correlation'])}",
    ]
    for name, title in (("only_first", "hard in A only"), ("only_second", "hard in B only")):
        for change in difference["changed"][name][:_SHOWN_ROWS]:
            first, second = change["difficulty"]
            row = f"{one_line(change['example_id'], 50)}, difficulty {decimal(first)} -> {decimal(second)}"
            lines += [f"  {title}: {row}", *([f"    {one_line(change['words'])}"] if change["words"] else [])]
    different = {name: pair for name, pair in difference["mixture"].items() if pair[0] != pair[1]}
    lines.append("mixture: the same" if not different else "mixture:")
    lines += [f"  {name}: {count(first)} -> {count(second)}" for name, (first, second) in different.items()]
    lines.append("recipe: the same" if not difference["recipe"] else "recipe:")
    for key, (first, second) in difference["recipe"].items():
        lines.append(f"  {one_line(key)}: {one_line(json.dumps(first))} -> {one_line(json.dumps(second))}")
    return lines
