"""`curate compare`: compare the arms of several fine-tuning runs, with confidence intervals."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from curate.comparison.compare import compare
from curate.comparison.differences import BALANCED, MEAN_OF_SETS, distinct
from curate.comparison.page import check_report
from curate.comparison.runs import MAIN_ARM, budget_name
from curate.comparison.side_by_side import COLUMNS, cells
from curate.comparison.text import UNITS, detectable, headline, interval, relative, signed, value
from curate.console.formatting import MISSING, compact, count, decimal, duration, one_line, visible
from curate.console.printing import show
from curate.storage.places import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate compare`, but for --json, which every command has."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="evaluated folders of `curate finetune`, of two arms or more"
    )
    parser.add_argument("--baseline", metavar="ARM", help="the arm to compare the others with (original)")
    parser.add_argument(
        "--sets", metavar="NAME,NAME", help="evaluation sets to compare on (all that every run was evaluated on)"
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="HTML report; comparison.json is written next to it",
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


# -- in the terminal --------------------------------------------------------------------------------------------------


_NARROW = 120  # columns below which only what matters most is shown
_MOST_ROWS = 60


def print_comparison(record: dict[str, Any]) -> None:
    """Print the headline, differences, arms with their cost, and notes of a comparison.json.

    For the metric that is not the primary outcome, only pooled differences are printed; the page and the JSON have all.
    """
    from rich.console import Console

    narrow = Console().width < _NARROW
    title, sentences = headline(record)
    show(title, "", sentences[0], "")
    metrics = {difference["metric"] for difference in record["differences"]}
    for metric in sorted(metrics, key=lambda candidate: (candidate != record["primary"]["metric"], candidate)):
        show(_differences(record, metric, narrow=narrow))
    if record["against_controls"]:
        show(_controls(record, narrow=narrow))
    show(_side_by_side(record, narrow=narrow))
    show(_arms(record, narrow=narrow))
    for warning in record["warnings"]:
        show(f"warning: {visible(warning)}")
    for note in record["notes"]:
        show(f"note: {visible(note)}")
    primary = record["primary"]
    others = record["comparisons"] - sum(difference["primary"] for difference in record["differences"])
    show(
        f"Primary outcome: {primary['set']} {primary['metric']}. The other {count(others)} intervals are "
        "exploratory: one in twenty excludes zero by chance."
    )


def _cut(rows: Sequence[Any]) -> str | None:
    hidden_rows = len(rows) - _MOST_ROWS
    return f"and {count(hidden_rows)} more: --json and the page of --out have all" if hidden_rows > 0 else None


def _differences(record: dict[str, Any], metric: str, *, narrow: bool) -> Any:
    """Table of one metric's differences to the baseline; fewer rows on a narrow terminal."""
    rows = distinct([difference for difference in record["differences"] if difference["metric"] == metric])
    if metric != record["primary"]["metric"]:
        rows = [row for row in rows if row["set"] == "pooled"]
    elif narrow:
        rows = [row for row in rows if row["set"] not in (MEAN_OF_SETS, BALANCED)]
    lower = ", lower is better" if metric == "nll" else ""
    title = f"{metric} against {one_line(record['baseline'])} ({UNITS[metric]}{lower})"
    return _filled(title, rows, "set", one_line(record["baseline"], 14), narrow=narrow)


def _controls(record: dict[str, Any], *, narrow: bool) -> Any:
    metric = record["primary"]["metric"]
    rows = [row for row in record["against_controls"] if row["metric"] == metric]
    title = f"{MAIN_ARM} against other extra rows: {metric} ({UNITS[metric]})"
    return _filled(title, rows, "baseline", "control", narrow=narrow)


def _side_by_side(record: dict[str, Any], *, narrow: bool) -> Any:
    from rich.table import Table

    rows = record["side_by_side"]
    about = "loss: nats per token, lower is better; answers: points; balanced: levels or sources alike"
    table = Table(title="side by side", title_justify="left", caption=_cut(rows) or about, caption_justify="left")
    for name in ("arm", "against"):
        table.add_column(name, overflow="fold")
    for metric, set_name in COLUMNS:
        table.add_column(f"{metric}, {set_name}", justify="right")
    budgets = len({row["budget"] for row in rows}) > 1
    for row in rows[:_MOST_ROWS]:
        arm = one_line(row["arm"], 30) + (f" ({row['budget'] or 'as run'})" if budgets else "")
        table.add_row(arm, one_line(row["baseline"], 30), *cells(row, intervals=not narrow))
    return table


def _filled(title: str, rows: list[dict[str, Any]], second: str, base: str, *, narrow: bool) -> Any:
    """A table of differences. second: key shown beside the arm; base: name of the reference mean in its column."""
    from rich.table import Table

    metric = rows[0]["metric"]
    budgets = len({row["budget"] for row in rows}) > 1
    table = Table(title=title, title_justify="left", caption=_cut(rows), caption_justify="left")
    for name in ("arm", "set" if second == "set" else "against"):
        table.add_column(name, overflow="fold")
    names = [] if narrow else [base, "arm"]
    names += ["diff." if narrow else "difference", "95 % interval"] + (
        [] if narrow else ["relative", "detectable", "p (Holm)"]
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=not narrow)
    table.add_column("verdict")
    for row in rows[:_MOST_ROWS]:
        arm = one_line(row["arm"], 30) + (f" ({row['budget'] or 'as run'})" if budgets else "")
        cells = [] if narrow else [value(metric, row["baseline_mean"]), value(metric, row["arm_mean"])]
        cells += [signed(metric, row["difference"]), interval(metric, row)]
        if not narrow:
            cells += [relative(row["relative"]), detectable(metric, row), f"{row['p_holm']:.3f}"]
        style = "bold" if row["primary"] else None
        table.add_row(arm, one_line(row[second], 30), *cells, row["verdict"], style=style)
    return table


def _arms(record: dict[str, Any], *, narrow: bool) -> Any:
    from rich.table import Table

    title = "cost of one run (in brackets: of the curation)"
    table = Table(title=title, title_justify="left", caption=_cut(record["arms"]), caption_justify="left")
    table.add_column("arm", overflow="fold")
    names = ["seeds", "steps", "tokens", "time"] if narrow else ["seeds", "steps", "epochs", "tokens", "time", "FLOPs"]
    for name in [*names, "cost"]:
        table.add_column(name, justify="right")
    for row in record["arms"][:_MOST_ROWS]:
        curation = row["curation"] or {}
        time = duration(row["seconds"]) + (f" (+{duration(curation['seconds'])})" if curation.get("seconds") else "")
        cells = [str(len(row["seeds"])), count(row["steps"])]
        cells += [] if narrow else [decimal(row["epochs"])]
        cells += [compact(row["tokens"]), time]
        cells += [] if narrow else [MISSING if row["flops_total"] is None else f"{row['flops_total']:.2e}"]
        ratio = row["flops_ratio"] if row["flops_ratio"] is not None else row["seconds_ratio"]
        cells.append(MISSING if ratio is None else f"{ratio:.2f}x")
        table.add_row(f"{one_line(row['arm'], 30)} ({budget_name(row['budget'])})", *cells)
    return table
