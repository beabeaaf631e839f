"""Compare scoring on a budget with full scoring: hard rows, difficulty, losses and tokens read."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from curate.clusterers import KMeans
from curate.data.examples import Examples
from curate.data.readers import read
from curate.difficulty.diagnostics import rank_correlation
from curate.difficulty.scores import Scores
from curate.difficulty.split import agreement, make_split
from curate.proxy.proxy import Proxy
from curate.run import Run
from curate.word_problems.table import generate
from scorers import LossTrajectory

_DETAILS = """\
    python benchmarks/score_sample.py [--rows 100000] [--data FILE] [--proxy scratch] [--cache DIR]
        [--out FILE.json]

Without --data the rows are generated word problems of four levels. Full scoring with another seed of the proxy stands
beside the budgets: what two full scorings do not share, no sample can be expected to find. With --cache the same
command resumes, and no seconds are reported, since finished work takes none.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--data", help="file to read instead of generated problems")
    parser.add_argument("--proxy", default="scratch")
    parser.add_argument("--samples", type=int, nargs="*", default=[2_000, 10_000], help="rows of score_sample")
    parser.add_argument("--budgets", type=float, nargs="*", default=[0.4, 0.6], help="shares of the tokens of all")
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--cache", type=Path, help="folder to keep proxies and losses in, so that a rerun resumes")
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    data = options.data or generate(n=options.rows, seed=0)
    examples = read(data, limit=options.rows).examples
    proxy = Proxy(model=options.proxy, checkpoints=options.checkpoints, max_length=options.max_length)
    record: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "rows": len(examples),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "results": {},
    }
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        full, tokens, seconds = _scored(examples, proxy, cache)
        record |= {"tokens_of_full_scoring": tokens, "seconds_of_full_scoring": None if options.cache else seconds}
        settings: dict[str, dict[str, Any]] = {"full, another seed": {}}
        settings |= {f"a sample of {rows:,}": {"score_sample": rows} for rows in options.samples}
        settings |= {f"{share:.0%} of the tokens": {"score_budget": int(share * tokens)} for share in options.budgets}
        for name, fields in settings.items():
            other_proxy = proxy.model_copy(update=fields)
            scores, read_tokens, seconds = _scored(examples, other_proxy, cache, seed=0 if fields else 1)
            result = {
                **_compared(examples, full, scores),
                "tokens": read_tokens,
                "seconds": None if options.cache else seconds,
            }
            record["results"][name] = result
            print(json.dumps({name: result}), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _scored(examples: Examples, proxy: Proxy, cache: Path, seed: int = 0) -> tuple[Scores, int, float]:
    """Scores, tokens that measuring them read, and seconds with the training."""
    run = Run(proxy, cache, seed=seed)
    started = time.perf_counter()
    scores = LossTrajectory().score(examples, run)
    seconds = round(time.perf_counter() - started, 1)
    facts = run.facts(examples)
    assert facts is not None
    assert scores.tokens is not None
    tokens = facts["sample"]["tokens"] if "sample" in facts else facts["tokens_per_pass"] * proxy.checkpoints
    return scores, tokens, seconds


def _compared(examples: Examples, full: Scores, scores: Scores) -> dict[str, Any]:
    """jaccard: of the hard rows. same_side: share of the rows that are hard in both or in neither. spearman: of the
    difficulty. rmse: of the losses, in nats."""
    splits = [make_split(each, KMeans(), ids=examples.ids) for each in (full, scores)]
    valid = splits[0].valid & splits[1].valid
    assert full.trajectory is not None
    assert scores.trajectory is not None
    difference = (full.trajectory - scores.trajectory)[valid].astype(np.float64)
    same = splits[0].hard == splits[1].hard
    agreement_facts = agreement(*splits)
    return {
        "jaccard": _rounded(agreement_facts["jaccard"]),
        "same_side": _rounded(float(same[valid].mean())),
        "spearman": _rounded(rank_correlation(full.difficulty[valid], scores.difficulty[valid])),
        "rmse": _rounded(float(np.sqrt((difference**2).mean()))),
        "hard_share": [_rounded(float(split.hard[valid].mean())) for split in splits],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    sys.exit(main())
