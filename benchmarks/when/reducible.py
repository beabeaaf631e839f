"""Compare estimated reducible rows with planted wrong rows in the families of the map."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.when.families import FAMILIES
from benchmarks.when.reducible_rows import task_gains
from benchmarks.when.settings import Setting
from curate.clusterers import KMeans
from curate.difficulty.reducible import reducible_rows
from curate.difficulty.split import make_split
from curate.proxy.held_out import like_rows
from curate.storage.atomic import publish_file

_DETAILS = """\
    python -m benchmarks.when.reducible --out DIR [--families symbols,...] [--seeds 0,1,2] [--time-limit MINUTES]
    python -m benchmarks.when.reducible --table

The rule is `curate.difficulty.reducible`, stated in benchmarks/LOG.md with what is expected of it. Runs that are in the
record (benchmarks/results/when/reducible.json) are not repeated; --table only makes the page from it.
"""

RECORD = Path("benchmarks/results/when/reducible.json")
NOISES = (0.15, 0.0, 0.05)  # in the order in which they run
# More rows than the map has, where there are: a wrong share of few hard rows is not worth estimating.
ROWS = {"symbols": 8_000, "text": 4_000, "arithmetic": 3_000, "gym": 2_400, "word_problems": 1_100}
_ERROR = 0.1  # up to which an estimate is called right, see benchmarks/LOG.md


def settings(names: Sequence[str] | None = None) -> list[Setting]:
    """One per family, noise and, for symbols, what the model knows; proxies of text are of the target's size.

    names: of the families, None = all; no other one's data is looked for.
    """
    chosen = []
    for name in FAMILIES if names is None else names:
        of_family = FAMILIES[name].settings()
        knows = ("nothing", "frequent") if name == "symbols" else ("frequent",)
        for known in knows:
            base = next(each for each in of_family if each.knows == known and each.share == 0.1)
            base = replace(base, rows=ROWS[name], unlearnable=0.0, proxy="small" if name == "symbols" else "same")
            chosen += [replace(base, noise=noise) for noise in NOISES]
    return chosen


def run(setting: Setting, seed: int, cache: Path) -> dict[str, Any]:
    """What the rule says of one seed of a setting, and what is true."""
    began = time.process_time()
    task = FAMILIES[setting.family].prepare(setting, seed, cache)
    scores = task.scores()
    split = make_split(scores, KMeans(), ids=task.rows["id"].combine_chunks(), seed=seed)
    rows = task.rows
    parts = (rows[name].to_pylist() for name in ("question", "answer"))
    texts = ["\n".join(row) for row in zip(*parts, strict=True)]
    assert split.tokens is not None
    gained = task_gains(task, split.tokens, like_rows(texts, rows["id"].to_pylist())[0], seed)
    reducible = reducible_rows(gained, split.hard, seed=seed)
    wrong, hard = np.array(task.rows["fault"].to_pylist()) != "", split.hard

    def above(rows: np.ndarray) -> float | None:
        return round(float(reducible.reducible[rows].mean()), 4) if rows.any() else None

    rare = np.array(task.rows["rare"].to_pylist())
    return {
        "family": setting.family,
        "knows": setting.knows,
        "noise": setting.noise,
        "training_rows": setting.rows,
        "seed": seed,
        "proxy_steps": task.proxy_steps,
        "best_checkpoints": gained.best,
        "since_checkpoints": gained.since,
        "hard_share": round(float(hard.mean()), 4),
        "rare_among_hard": round(float(rare[hard & ~wrong].mean()), 4) if (hard & ~wrong).any() else None,
        "true_wrong_share": round(float(wrong[hard].mean()), 4),
        "true_wrong_share_of_easy": round(float(wrong[~hard].mean()), 4),
        "above_cut": {
            "hard, right": above(hard & ~wrong),
            "hard, wrong": above(hard & wrong),
            "easy, right": above(~hard & ~wrong),
            "rare, right": above(rare & ~wrong),
        },
        **_rounded(reducible.to_json()),
        "seconds": round(time.process_time() - began, 1),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def key_of(run_record: dict[str, Any]) -> tuple[Any, ...]:
    """What a run is known by in the record."""
    return tuple(run_record[name] for name in ("family", "knows", "noise", "training_rows", "seed"))


def page(runs: list[dict[str, Any]]) -> str:
    """reducible.md: a table of all runs, and how often the rule was right by family."""
    lines = [
        "# Reducible rows: estimated and planted wrong rows",
        "",
        "Written by `python -m benchmarks.when.reducible`; numbers are in reducible.json. True, estimated: share of "
        "wrong rows among the hard ones, the estimate with its 95 % interval. The rest: shares above the cut.",
        "",
        "| family | knows | planted | seed | hard | true | estimated | hard | easy | null | hard right | hard wrong |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(runs, key=lambda each: (list(ROWS).index(each["family"]), *key_of(each)[1:])):
        told = "cannot tell"
        if each["verdict"] == "estimated":
            low, high = each["interval"]
            told = f"{each['wrong_share']:.2f} ({low:.2f} .. {high:.2f})"
        shares, above = each["shares"], each["above_cut"]
        cells = [
            each["family"],
            each["knows"],
            f"{each['noise']:.0%}",
            str(each["seed"]),
            f"{each['hard_share']:.2f}",
            f"{each['true_wrong_share']:.2f}",
            told,
            *(f"{shares[name]:.2f}" for name in ("hard", "easy", "null")),
            *("" if above[name] is None else f"{above[name]:.2f}" for name in ("hard, right", "hard, wrong")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"| family | runs | estimated | within {_ERROR} of the truth | truth in the interval | mean error | above the "
        "cut: hard right, hard wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_summary(name, [each for each in runs if each["family"] == name]) for name in ROWS]
    untold = [each for each in runs if each["interval"] is None]
    reasons = sorted((each["family"], each["noise"], each["seed"], each["reason"]) for each in untold)
    lines += ["", "Why nothing could be told:", ""]
    lines += [f"- {family}, {noise:.0%}, seed {seed}: {why}." for family, noise, seed, why in reasons]
    return "\n".join(lines) + "\n"


def _summary(name: str, runs: list[dict[str, Any]]) -> str:
    decided = [each for each in runs if each["interval"] is not None]
    errors = np.array([each["wrong_share"] - each["true_wrong_share"] for each in decided])
    within = sum(each["interval"][0] <= each["true_wrong_share"] <= each["interval"][1] for each in decided)
    # None where there are no such rows.
    right, wrong = (
        [run["above_cut"][kind] for run in runs if run["above_cut"][kind] is not None]
        for kind in ("hard, right", "hard, wrong")
    )
    cells = [name, str(len(runs)), str(len(decided)), str(int((np.abs(errors) <= _ERROR).sum())), str(within)]
    cells.append(f"{errors.mean():+.2f}" if len(decided) else "")
    cells.append(f"{np.mean(right):.2f}, {np.mean(wrong):.2f}" if right and wrong else "")
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for models")
    parser.add_argument("--families", help=f"which ({','.join(FAMILIES)})")
    parser.add_argument("--seeds", default="0,1,2", help="which (0,1,2)")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="begin no run after that")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--table", action="store_true", help="only the page of the record")
    options = parser.parse_args(arguments)
    if options.table == (options.out is not None):
        parser.error("give --out DIR to run, or --table")
    record: dict[str, Any] = {"runs": []}
    if options.record.is_file():
        record = json.loads(options.record.read_text())
    if not options.table:
        import torch

        torch.set_num_threads(1)
        record |= {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        chosen = options.families.split(",") if options.families else list(FAMILIES)
        if unknown := [name for name in chosen if name not in FAMILIES]:
            parser.error(f"there is no family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
        began, done = time.monotonic(), {key_of(each) for each in record["runs"]}
        for seed in [int(each) for each in options.seeds.split(",")]:
            for setting in settings(chosen):
                key = (setting.family, setting.knows, setting.noise, setting.rows, seed)
                if key in done:
                    continue
                if options.time_limit is not None and time.monotonic() - began > 60 * options.time_limit:
                    print("runs are left; the same command goes on", file=sys.stderr)
                    return 3
                record["runs"].append(run(setting, seed, options.out))
                options.record.parent.mkdir(parents=True, exist_ok=True)
                publish_file(options.record, json.dumps(record, indent=1) + "\n")
                print(*key, record["runs"][-1]["verdict"], file=sys.stderr, flush=True)
    publish_file(options.record.with_suffix(".md"), page(record["runs"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
