"""Compare the split of data of known difficulty with the published levels."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from curate import Pipeline, Progress, read

_DETAILS = """\
    python benchmarks/known_levels.py DATA --proxy scratch [--columns completion=final_answer] [--where split=train]
        [--limit 4000] [--level level] [--top 2] [--set path=value]... [--out FILE.json]

For every source: hard share per level, AUC of the difficulty for the `--top` highest levels against the others, and
the same for completion length and for question length, which a useful signal has to beat.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--proxy", default="scratch")
    parser.add_argument("--columns")
    parser.add_argument("--where")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--level", default="level", help="column with the known level")
    parser.add_argument("--top", type=int, default=2, help="how many of the highest levels count as hard")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = [f"proxy.model={json.dumps(options.proxy)}", "clusterer.per=source", *options.set]
    loaded = read(options.data, columns=options.columns, where=options.where, limit=options.limit)
    curated = Pipeline.from_recipe(options.recipe, settings=settings).run(
        loaded, cache=options.cache, progress=Progress("lines")
    )
    examples, split = loaded.examples, curated.split
    levels = np.array([float(x) for x in examples.table.column(options.level).to_pylist()])
    prompts = np.array([len(text) for text in examples.texts("prompt", 0, len(examples))])
    signals = {"difficulty": split.difficulty, "completion tokens": curated.scores.tokens, "prompt characters": prompts}
    sources = examples.sources()
    sources = np.full(len(examples), "all", object) if sources is None else sources
    valid = split.valid
    per_source = {
        str(name): _compare(levels, split.hard, signals, valid & (sources == name), options.top)
        for name in sorted(set(sources[valid]))
    }
    means = {name: _mean([each["auc"][name] for each in per_source.values()]) for name in signals}
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "rows": len(examples),
        "proxy": curated.proxy_facts,
        "mean_auc_over_sources": means,
        "hard_share_by_level": _shares(levels, split.hard, valid),
        "sources": per_source,
        "diagnostics": curated.diagnostics.to_json(),
        "cost": [(c.name, round(c.seconds, 1), c.tokens) for c in curated.run.progress.costs],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
        "machine": platform.platform(),
    }
    _print(record)
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def auc(score: Any, truth: Any) -> float | None:
    """Chance that a random hard row scores above a random easy one; ties count half."""
    positive = int(truth.sum())
    if positive in (0, len(truth)):
        return None
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def _compare(levels: Any, hard: Any, signals: dict[str, Any], rows: Any, top: int) -> dict[str, Any]:
    known = np.unique(levels[rows])
    truth = levels[rows] >= known[-min(top, len(known))]
    return {
        "rows": int(rows.sum()),
        "hard_share_by_level": _shares(levels, hard, rows),
        "auc": {name: auc(np.asarray(signal)[rows], truth) for name, signal in signals.items()},
        "spearman": {
            name: None if len(known) < 2 else float(spearmanr(np.asarray(signal)[rows], levels[rows]).statistic)
            for name, signal in signals.items()
        },
    }


def _shares(levels: Any, hard: Any, rows: Any) -> dict[str, float]:
    return {f"{each:g}": round(float(hard[rows & (levels == each)].mean()), 4) for each in np.unique(levels[rows])}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def _print(record: dict[str, Any]) -> None:
    print(f"\n{'source':<28} {'rows':>6}  {'AUC difficulty':>14} {'AUC length':>11}   hard share by level")
    for name, each in record["sources"].items():
        first, second = each["auc"]["difficulty"], each["auc"]["completion tokens"]
        shares = "  ".join(f"{level}: {share:.0%}" for level, share in each["hard_share_by_level"].items())
        print(f"{name:<28} {each['rows']:>6}  {_number(first):>14} {_number(second):>11}   {shares}")
    means = ", ".join(f"{name} {_number(value)}" for name, value in record["mean_auc_over_sources"].items())
    print(f"mean AUC over sources: {means}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
