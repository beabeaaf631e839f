"""`curate demo`: curate generated math problems of known difficulty and compare the split with it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from curate.cli.options import add_machine_arguments
from curate.cli.steps import new_progress
from curate.comparison.text import interval, relative, signed, value
from curate.console.printing import say, show
from curate.curated import Curated
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.storage.atomic import make_folder, publish_file
from curate.storage.places import local_path
from curate.types import BoolArray
from curate.validation.control import control
from curate.validation.control_task import parquet
from curate.word_problems.table import generate

_HARD_LEVEL = 3  # levels 3 and 4 of the generated problems are the hard ones
_SETTINGS = ("proxy.model=scratch",)
_ROWS = 3000
_SEEDS = 5
_FEWEST_ROWS = 100  # fewer make no clusters worth looking at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate demo`."""
    parser.add_argument("--out", type=local_path, metavar="DIR", help="output folder (demo; of --control: control)")
    parser.add_argument("--rows", type=int, metavar="N", help=f"problems to generate ({_ROWS})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="positive control: fine-tune where repeating hard rows has to help, with random and easy rows as controls",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help=f"of --control: how often each arm runs ({_SEEDS})")
    add_machine_arguments(parser)


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Generate problems, curate them with a proxy made from scratch, and compare the split with the known levels."""
    if options.out is None:
        options.out = Path("control" if options.control else "demo")
    if options.control:
        return _control(options)
    if options.seeds is not None:
        raise InputError(f"--seeds {options.seeds} is for --control; add it, or use --seed")
    options.rows = _ROWS if options.rows is None else options.rows
    if options.rows < _FEWEST_ROWS:
        raise InputError(f"--rows {options.rows}: give at least {_FEWEST_ROWS}, fewer cannot be split")
    started = time.monotonic()
    progress = new_progress()
    problems = generate(n=options.rows, seed=options.seed)
    data, result = options.out / "problems.parquet", options.out / "curated"
    make_folder(options.out)
    publish_file(data, parquet(problems))
    progress.note(f"{options.rows:,} generated word problems of known difficulty -> {data}")
    pipeline = Pipeline.from_recipe("quick", settings=[*_SETTINGS, f"seed={options.seed}"])
    curated = pipeline.run(data, out=result, cache=options.cache, device=options.device, progress=progress)
    record = {"data": str(data), "directory": str(result), **_against_levels(problems, curated)}
    if not options.json:
        _print(record, time.monotonic() - started)
    return record


def _control(options: argparse.Namespace) -> dict[str, Any]:
    """Run the positive control, or what is left of it."""
    if options.rows is not None:
        raise InputError(f"--rows {options.rows}: the rows of --control are fixed; leave it out")
    count = _SEEDS if options.seeds is None else options.seeds
    if count < 1:
        raise InputError(f"--seeds {count}: give at least 1, better {_SEEDS}")
    started = time.monotonic()
    settings: dict[str, Any] = {"cache": options.cache, "device": options.device, "progress": new_progress()}
    record = control(options.out, range(count), options.seed, **settings)
    if not options.json:
        _print_control(record, options.out, time.monotonic() - started)
    return {**record, "directory": str(options.out)}


def _print_control(record: dict[str, Any], out: Path, seconds: float) -> None:
    steps, losses = record["budget"]["steps"], record["budget"]["losses"]
    table = Table(title=f"Does it help where it has to? ({seconds:.0f} s)", title_justify="left", show_lines=True)
    table.add_column("arm")
    for name in ("mixture\nnats per token", "mixture\nexact answers", "balanced\nexact answers"):
        table.add_column(name, justify="right")
    table.add_row("original", *(value(row["metric"], row["baseline_mean"]) for row in _shown(record["results"][:4])))
    compared = [*record["results"], *record["hard_against"]]
    for arm, baseline in dict.fromkeys((row["arm"], row["baseline"]) for row in compared):
        rows = [row for row in compared if (row["arm"], row["baseline"]) == (arm, baseline)]
        table.add_row(f"{arm}\nagainst {baseline}", *map(_change, _shown(rows)))
    split = record["split"]
    show(
        "",
        f"{record['sizes']['rows']:,} rows of eight skills, four of them rare ({record['sizes']['share']:.0%} of the "
        f"rows). The proxy calls {split['hard_share']:.1%} hard; {split['precision']:.0%} of these are of rare skills.",
        f"All arms take {steps} steps: after so many the original rows have halved the loss of the rare skills "
        f"({losses[0]:.2f} to {losses[-1]:.2f} nats per token, in a pilot run that does not count).",
        "",
        table,
        f"{len(record['seeds'])} seeds, 95 % intervals. Fewer nats per token are better; exact answers in points. "
        "Mixture: questions mixed as the training rows; balanced: all skills alike.",
        "",
        record["verdict"]["sentence"],
    )
    say(f"report   {out}/validation/report.html")


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The differences of one arm that the table has a column for."""
    return [row for row in rows if (row["set"], row["metric"]) != ("balanced", "nll")]


def _change(row: dict[str, Any]) -> str:
    """A difference with its interval as a table cell."""
    metric = row["metric"]
    share = f" ({relative(row['relative'])})" if metric == "nll" else ""
    return f"{signed(metric, row['difference'])}{share}\n{interval(metric, row)}"


def _against_levels(problems: pa.Table, curated: Curated) -> dict[str, Any]:
    """How well the split and, as a reference, the completion length separate the known hard levels from the others."""
    split = curated.split
    level_of = dict(zip(problems["id"].to_pylist(), problems["level"].to_pylist(), strict=True))
    levels = np.array([level_of[row_id] for row_id in split.ids.to_pylist()])  # (n,)
    truth = levels >= _HARD_LEVEL
    tokens = curated.scores.tokens
    assert tokens is not None  # the proxy has tokenized the rows
    longest = np.zeros(len(levels), np.bool_)  # (n,)
    longest[np.argsort(-tokens, kind="stable")[: int(split.hard.sum())]] = True
    return {
        "levels": [
            {"level": int(level), "rows": int((levels == level).sum()), "hard": int(split.hard[levels == level].sum())}
            for level in np.unique(levels)
        ],
        "signals": [
            {"signal": "loss trajectory", **_agreement(split.hard, split.difficulty, truth)},
            {"signal": "completion length", **_agreement(longest, tokens, truth)},
        ],
    }


def _agreement(picked: BoolArray, score: Any, truth: BoolArray) -> dict[str, float]:
    """precision and recall of the selected rows; auc: chance that a random hard row scores above a random easy one."""
    from scipy.stats import rankdata

    right, positive = int((picked & truth).sum()), int(truth.sum())
    pairs = positive * (len(truth) - positive)
    auc = float(rankdata(score)[truth].sum() - positive * (positive + 1) / 2) / max(pairs, 1)
    numbers = {"precision": right / max(int(picked.sum()), 1), "recall": right / max(positive, 1), "auc": auc}
    return {name: round(number, 4) for name, number in numbers.items()}


def _print(record: dict[str, Any], seconds: float) -> None:
    levels = Table(title=f"How the known levels were split ({seconds:.0f} s)", title_justify="left")
    for name in ("level", "rows", "easy", "hard", "hard %"):
        levels.add_column(name, justify="right")
    for row in record["levels"]:
        rows, hard = row["rows"], row["hard"]
        levels.add_row(str(row["level"]), f"{rows:,}", f"{rows - hard:,}", f"{hard:,}", f"{hard / rows:.0%}")
    signals = Table(title=f"Levels {_HARD_LEVEL} and above among the rows picked", title_justify="left")
    for name in ("picked by", "precision", "recall", "AUC"):
        signals.add_column(name, justify="left" if name == "picked by" else "right")
    for row in record["signals"]:
        signals.add_row(row["signal"], *(f"{row[name]:.2f}" for name in ("precision", "recall", "auc")))
    show("", levels, signals)
    say(
        f"dataset  {record['directory']}/data",
        f"report   {record['directory']}/report.html   (open it in a browser)",
        "",
        "Now your own data (Parquet, JSONL, CSV, a folder, or a Hugging Face dataset id):",
        "  curate run YOUR_DATA --out curated --proxy scratch       no download needed",
        "  curate run YOUR_DATA --out curated                       with Pythia-70M as the proxy",
        "  curate plan YOUR_DATA                                    what it would cost, first",
    )
