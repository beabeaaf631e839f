"""`make demo`: curate a generated set of maths word problems whose difficulty is known, and see what was found.

python benchmarks/demo.py [--out demo] [--rows 3000] [--seed 0]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.cli.main import main as curate_main
from curate.word_problems.table import generate

__all__ = ["main"]

HARD_LEVEL = 3  # levels 3 and 4 are the hard ones


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (demo)")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    data, result = options.out / "problems.parquet", options.out / "curated"
    problems = generate(n=options.rows, seed=options.seed)
    pq.write_table(problems, data)
    print(f"{options.rows:,} generated word problems of known difficulty -> {data}\n", file=sys.stderr)
    shutil.rmtree(result, ignore_errors=True)  # a demo shows the work each time; what is cached stays cached
    arguments = ["run", str(data), "--out", str(result), "--proxy", "scratch", "--seed", str(options.seed)]
    status = curate_main(arguments)
    if status == 0:
        _show(problems, result, time.monotonic() - started)
    return status


def _show(problems: pa.Table, result: Path, seconds: float) -> None:
    split = pq.read_table(result / "tables" / "split.parquet").to_pydict()
    tokens = np.array(pq.read_table(result / "tables" / "scores.parquet", columns=["tokens"]).column(0))
    level_of = dict(zip(problems.column("id").to_pylist(), problems.column("level").to_pylist(), strict=True))
    level = np.array([level_of[each] for each in split["example_id"]])
    hard = np.array(split["hard"])
    difficulty = np.array(split["difficulty"], float)
    print(f"\nHow the known levels fell (done in {seconds:.0f} s):\n")
    print("  level   rows   easy   hard   hard %")
    for each in np.unique(level):
        rows = level == each
        count = int(hard[rows].sum())
        print(f"  {each:>5} {rows.sum():>6} {rows.sum() - count:>6} {count:>6} {hard[rows].mean():>8.0%}")
    longest = np.zeros(len(hard), bool)
    longest[np.argsort(-tokens, kind="stable")[: hard.sum()]] = True
    truly = level >= HARD_LEVEL
    print("\n  levels 3 and 4 among the rows picked   precision   recall    AUC")
    for name, picked, score in (("by loss trajectory", hard, difficulty), ("by completion length", longest, tokens)):
        precision = (picked & truly).sum() / max(picked.sum(), 1)
        recall = (picked & truly).sum() / max(truly.sum(), 1)
        print(f"  {name:<38} {precision:>9.2f} {recall:>8.2f} {_auc(score, truly):>6.2f}")
    print(f"\ndataset  {result / 'data'}\nreport   {result / 'report.html'}   (open it in a browser)")
    print("\nNow your own data (Parquet, JSONL, CSV, a folder, or a Hugging Face dataset id):")
    print("  .venv/bin/curate run YOUR_DATA --out curated --proxy scratch       no download needed")
    print("  .venv/bin/curate run YOUR_DATA --out curated                       with Pythia-70M as the proxy")
    print("  .venv/bin/curate plan YOUR_DATA                                    what it would cost, first")


def _auc(score: Any, truth: Any) -> float:
    """Chance that a random hard row scores above a random easy one."""
    from scipy.stats import rankdata

    ranks = rankdata(score)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / max(positive * (len(truth) - positive), 1))


if __name__ == "__main__":
    sys.exit(main())
