"""`curate inspect`: print a finished run in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.console.formatting import compact, count, one_line, share, visible
from curate.console.printing import show
from curate.errors import InputError
from curate.mixture.forecast_words import lines
from curate.report import synthesis_funnel as funnel
from curate.report.check_rates import CheckRate, check_rates
from curate.report.finished_run import shards
from curate.report.texts import SYSTEM_ROLES, Cell, cells_by_id, texts_of
from curate.storage.places import arrow_path, local_path
from curate.storage.records import check_files, read_finished

_SHOWN_CHARACTERS = 300
_SHOWN_REASONS = 6
_TOKENS = {f"tokens_{when}": f"completion tokens {when}" for when in ("before", "after", "weighted")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate inspect`."""
    parser.add_argument("directory", type=local_path, metavar="DIR")
    parser.add_argument(
        "--examples", type=int, default=3, metavar="N", help="easiest and hardest rows to show, of each (3)"
    )


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate inspect`: print a finished run in the terminal."""
    result = inspection(options.directory, options.examples)
    if not options.json:
        print_inspection(result)
    return result


def inspection(directory: Path, examples: int) -> dict[str, Any]:
    """Counts, diagnostics, warnings, records of synthesis, and the easiest and hardest rows of a finished run."""
    if examples < 0:
        raise InputError(f"--examples {examples}: give a number of rows, or 0 for none")
    record = read_finished(directory)
    check_files(directory, record, "rerun the command that wrote it with --fresh", "tables/")
    if examples:
        remedy = "rerun the command that wrote it with --fresh, or show no rows with --examples 0"
        check_files(directory, record, remedy, "data/")
    split = pq.read_table(arrow_path(directory / "tables" / "split.parquet"))
    measured_rows = split.filter(pc.is_valid(split.column("difficulty")))
    order = pc.sort_indices(measured_rows, sort_keys=[("difficulty", "ascending")])
    easiest = measured_rows.take(order[:examples])
    hardest = measured_rows.take(order[::-1][:examples])
    return {
        "directory": str(directory),
        "recipe": record["recipe_yaml"],
        "data": record["data"],
        "proxy": record["proxy"],
        "counts": record["counts"],
        "diagnostics": record["diagnostics"],
        "forecast": record.get("forecast"),  # earlier versions recorded none
        "warnings": record["warnings"],
        "synthesis": record.get("synthesis", []),
        "seconds": record["cost"]["seconds"],
        "easiest": _with_text(directory, easiest.to_pylist(), record["data"]["columns"]),
        "hardest": _with_text(directory, hardest.to_pylist(), record["data"]["columns"]),
    }


_SHOWN_ROLES = ("prompt", "completion", "instruction", "output", "messages", "text", "chosen", "rejected")


def _with_text(directory: Path, rows: list[dict[str, Any]], roles: dict[str, str]) -> list[dict[str, Any]]:
    if not rows:
        return []
    names = [roles[r] for r in _SHOWN_ROLES if r in roles]
    cells = cells_by_id(shards(directory), [row["example_id"] for row in rows], names)
    for row in rows:
        values = cells.get(row["example_id"])  # None where the row was left out of the result
        row["text"] = {name: _text(values.get(name))[:_SHOWN_CHARACTERS] for name in names if values is not None}
    return rows


def _text(cell: Any) -> str:
    """The text of a cell; of a conversation, its turns but for the system's, which many rows may share."""
    if isinstance(cell, Cell):
        return cell.text
    if isinstance(cell, list):
        turns = [(label, turn.text) for label, turn in texts_of("turn", cell)]
        spoken_texts = [(label, text) for label, text in turns if label not in SYSTEM_ROLES]
        return "\n".join(f"[{label}] {text}" for label, text in spoken_texts or turns)
    return str(cell)


def print_inspection(result: dict[str, Any]) -> None:
    from rich.table import Table

    counts, proxy = result["counts"], result["proxy"]
    weighted = f" that count as {counts['output_weighted']:,} by `weight`" if "output_weighted" in counts else ""
    show(
        visible(result["directory"]),
        f"{counts['input']:,} rows in, {counts['output']:,} out{weighted}, {counts['hard']:,} hard",
    )
    if proxy:
        show(f"proxy {one_line(proxy['model'])}: steps {', '.join(str(step) for step in proxy['steps'])}")
    table = Table(title="rows and tokens", title_justify="left")
    table.add_column("kind")
    table.add_column("number", justify="right")
    for name, value in counts.items():
        table.add_row(_TOKENS.get(name, name), f"{value:,}")
    show(table)
    by_source = result["diagnostics"].get("hard_share_by_source") or {}
    if len(by_source) > 1:
        sources = Table(title="hard rows per source", title_justify="left")
        for name in ("source", "rows", "hard", "share"):
            sources.add_column(name, justify="left" if name == "source" else "right")
        for name, source in sorted(by_source.items(), key=lambda item: -item[1]["share"]):
            sources.add_row(one_line(str(name)), f"{source['rows']:,}", f"{source['hard']:,}", f"{source['share']:.1%}")
        show(sources)
    if result["forecast"]:
        show(visible("\n".join(lines(result["forecast"]))))
    _print_synthesis(result)
    for warning in result["warnings"]:
        show(visible(f"warning: {warning['message']} {warning['remedy']}"))
    for kind in (kind for kind in ("easiest", "hardest") if result[kind]):
        if not any(row["text"] for row in result[kind]):
            show(f"\n{kind} rows: left out of the result; tables/scores.parquet has their ids and scores")
            continue
        show(f"\n{kind} rows", *(line for row in result[kind] for line in _lines(row)))


def _print_synthesis(result: dict[str, Any]) -> None:
    """For each synthesis: what is left after each step, why the rest was rejected, how much is hard again, the cost."""
    from rich.table import Table

    for record in funnel.records(result):
        table = Table(title="new problems", title_justify="left")
        for name in ("step", "number", "of the step before"):
            table.add_column(name, justify="left" if name == "step" else "right")
        for step in funnel.steps(record):
            share_of_total = step.factor if step.of_before is None else share(step.of_before)
            table.add_row(step.name, count(step.count), share_of_total)
        show(table)
        print_checks(check_rates(record))
        lost = funnel.lost_problems(record)[:_SHOWN_REASONS]
        if lost:
            reasons = (f"{count(loss.count)} {one_line(loss.reason.name.lower())}" for loss in lost)
            show("not kept: " + "; ".join(reasons))
        again = funnel.rescored(record)
        if again is not None:
            interval = f"95 % interval {share(again.low)} to {share(again.high)}"
            show(f"hard again: {count(again.hard)} of {count(again.measured)} ({share(again.share)}, {interval})")
        tokens, requests, kept = record["tokens"], record["requests"], record["outcomes"].get("kept", 0)
        per_problem = f", {compact(tokens['generated'] / kept)} per kept problem" if kept else ""
        show(
            f"{one_line(record['generator'])}: {count(tokens['generated'])} tokens generated{per_problem}; "
            f"{count(requests['made'])} requests made, {count(requests['from the store'])} from the store"
        )
        for message, remedy in funnel.advice(record):
            show(f"warning: {message} {remedy}")


def print_checks(rates: list[CheckRate]) -> None:
    """What each check rejected, and what it cost."""
    from rich.table import Table

    if not rates:
        return
    table = Table(title="checks of new problems", title_justify="left")
    for name in ("check", "tried", "rejected", "rate", "requests", "tokens"):
        table.add_column(name, justify="left" if name == "check" else "right")
    for rate in rates:
        numbers = (rate.tried, rate.turned_away, rate.requests, rate.generated)
        tried, turned_away, requests, generated = (count(number) for number in numbers)
        table.add_row(one_line(rate.name), tried, turned_away, share(rate.rate), requests, generated)
    show(table)


def _lines(row: dict[str, Any]) -> list[str]:
    texts = [f"    {one_line(name)}: {one_line(text, _SHOWN_CHARACTERS)}" for name, text in row["text"].items()]
    if not texts:
        texts = ["    left out of the result"]
    return [f"  {one_line(row['example_id'])}  difficulty {row['difficulty']:.3f}", *texts]
