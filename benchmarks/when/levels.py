"""Correlate difficulty with published levels: overall, within strata of length, and among reducible rows."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from benchmarks.reproduction.summary import made_with
from benchmarks.when.stored import DATA, stored_rows
from curate import Proxy, Run, make_split, read
from curate.clusterers import KMeans
from curate.difficulty.reducible import gains, reducible_rows
from curate.errors import InputError
from curate.proxy.held_out import measure_halves
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.types import BoolArray, Float64Array, IntArray
from scorers import LossTrajectory

_DETAILS = """\
    python -m benchmarks.when.levels --out DIR --proxy scratch|MODEL [--sets gsm8k,math,reasoning_gym] [--rows 400]
        [--steps 100] [--checkpoints 5] [--batch-size 16] [--no-reducible] [--data DIR] [--seed 0]
        [--record FILE.json] [--page FILE.md]

GSM8K: level = annotated steps of the solution. MATH: published level. reasoning_gym: level, within each task. Every
number is Spearman's rank correlation with the level, with a 95 %% bootstrap interval over rows. The same command
resumes; --record and --page hold what all proxies of DIR have found.
"""

SETS = ("gsm8k", "math", "reasoning_gym")
FILES = {"gsm8k": "gsm8k", "math": "math", "reasoning_gym": "reasoning_gym_math"}
_LONGEST = 1_000  # characters of question and answer together: what two cores can afford
_HALVES_LONGEST = 2  # times the proxy's length, of the half-proxies
STRATA = 10
RESAMPLES = 500
KINDS = ("plain", "within length", "reducible", "completion tokens")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for proxies and finished sets")
    parser.add_argument("--proxy", required=True, help="scratch, or the folder of a model")
    parser.add_argument("--sets", default=",".join(SETS), help="which (all)")
    parser.add_argument("--rows", type=int, default=400, help="of each set (400)")
    parser.add_argument("--steps", type=int, default=100, help="of the proxy (100)")
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--no-reducible", action="store_true", help="without the half-proxies, which cost most")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the sets ({DATA})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    if unknown := set(options.sets.split(",")) - set(SETS):
        parser.error(f"--sets: {', '.join(sorted(unknown))} not among {', '.join(SETS)}")
    name = Path(options.proxy).name
    command = shlex.join(
        ["python", "-m", "benchmarks.when.levels", *(sys.argv[1:] if arguments is None else arguments)]
    )
    for each in options.sets.split(","):
        place = options.out / "sets" / f"{each}-{name}-{options.seed}.json"
        if place.is_file():
            continue
        try:
            record_of_set = one(each, options)
        except InputError as error:
            parser.error(str(error))
        publish_file(place, json.dumps({"set": each, "proxy": name, "command": command, **record_of_set}) + "\n")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((options.out / "sets").glob("*.json"))]
    text = page(results)
    print(text)
    if options.record:
        publish_file(options.record, json.dumps({"sets": results, **made_with()}, indent=1) + "\n")
    if options.page:
        publish_file(options.page, text)
    return 0


def rows_of(name: str, folder: Path, count: int, seed: int) -> pa.Table:
    """`count` training rows that have a level and are not too long: id, question, answer, source, level (int)."""
    kept = []
    for row in stored_rows(folder, FILES[name]):
        answer = row["final_answer"] if name == "reasoning_gym" else row["answer"]
        level = row["level"]
        fits = answer and len(row["question"]) + len(answer) <= _LONGEST
        if row["split"] == "train" and fits and level and level.isdigit():
            source = row["subject"] if name == "reasoning_gym" else name
            kept.append((row["id"], row["question"], answer, source, int(level)))
    if len(kept) < count:
        raise InputError(f"{name} has {len(kept)} rows that fit, and {count} are wanted; lower --rows")
    chosen = np.random.default_rng(derive_seed(seed, "when", "levels", name)).choice(len(kept), count, replace=False)
    names = ("id", "question", "answer", "source", "level")
    return pa.table({each: [kept[i][k] for i in chosen] for k, each in enumerate(names)})


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What difficulty goes with in one set, under one proxy."""
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    table = rows_of(name, options.data, options.rows, options.seed)
    examples = read(table, columns="prompt=question,completion=answer,source=source,id=id").examples
    proxy = Proxy(
        model=options.proxy,
        steps=options.steps,
        checkpoints=options.checkpoints,
        batch_size=options.batch_size,
        template="plain",
        precision="float32",
    )
    run = Run(proxy, options.out / "cache", "cpu", seed=derive_seed(options.seed, "when", "levels"))
    scores = LossTrajectory().score(examples, run)
    sources = np.array(table["source"].to_pylist(), object)
    split = make_split(scores, KMeans(per="source"), ids=examples.ids, sources=sources, seed=options.seed)
    levels, lengths = np.array(table["level"].to_pylist()), np.asarray(scores.tokens)
    valid = scores.valid
    reducible, rule = None, None
    if not options.no_reducible:
        held_out = measure_halves(examples, proxy, run.context, longest=_HALVES_LONGEST)
        answer = reducible_rows(gains(held_out.rows, held_out.null, held_out.halves), split.hard, seed=options.seed)
        reducible, rule = answer.reducible & valid, answer.to_json()
    seed = derive_seed(options.seed, "when", "levels", "bootstrap")
    record = correlations(scores.difficulty, levels, lengths, sources, valid, reducible, seed)
    shares = {f"{level}": _short(split.hard[valid & (levels == level)].mean()) for level in np.unique(levels[valid])}
    return {
        "rows": int(valid.sum()),
        "steps": options.steps,
        "batch_size": options.batch_size,
        "tokens": _short(lengths[valid].mean()),
        "hard_share": _short(split.hard[valid].mean()),
        "hard_share_by_level": shares,
        "rows_by_level": {f"{level}": int((levels[valid] == level).sum()) for level in np.unique(levels[valid])},
        "correlations": record,
        "with_length": _short(within(scores.difficulty[valid], lengths[valid], sources[valid].astype(str))),
        "reducible": rule,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def correlations(
    difficulty: Any,
    levels: IntArray,
    lengths: IntArray,
    sources: Any,
    valid: BoolArray,
    reducible: BoolArray | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Kind of comparison -> correlation with the level, interval and rows; all arrays (n,)."""
    numbers = np.unique(sources.astype(str), return_inverse=True)[1]  # (n,)
    strata = numbers * STRATA + _strata(lengths, numbers)
    kinds: dict[str, tuple[BoolArray, Any, Any]] = {
        "plain": (valid, difficulty, numbers),
        "within length": (valid, difficulty, strata),
        "completion tokens": (valid, lengths, numbers),
    }
    if reducible is not None:
        kinds["reducible"] = (reducible, difficulty, numbers)
    result = {}
    for name, (rows, values, groups) in kinds.items():
        places = np.flatnonzero(rows)

        def measured(chosen: IntArray, values: Any = values, groups: Any = groups) -> float:
            return within(values[chosen], levels[chosen], groups[chosen])

        low, high = _interval(measured, places, seed)
        value = measured(places) if len(places) else np.nan
        result[name] = {"rho": _short(value), "low": _short(low), "high": _short(high), "rows": len(places)}
    return result


def within(values: Any, levels: Any, groups: Any) -> float:
    """Spearman's correlation inside groups: the mean, weighted by rows, of those in which both vary; NaN if none."""
    total, weight = 0.0, 0
    for group in np.unique(groups):
        rows = groups == group
        first, second = _ranks(values[rows]), _ranks(levels[rows])
        scale = np.sqrt((first @ first) * (second @ second))
        if scale > 0:
            total += rows.sum() * float(first @ second) / scale
            weight += int(rows.sum())
    return total / weight if weight else np.nan


def _ranks(values: Any) -> Float64Array:
    """(n,) ranks about their mean."""
    ranks = rankdata(values)
    return ranks - ranks.mean()


def _strata(lengths: IntArray, sources: IntArray) -> IntArray:
    """(n,) which decile of completion tokens a row is in, among those of its source; as many rows in each."""
    strata = np.zeros(len(lengths), np.int64)
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        order = rows[np.argsort(lengths[rows], kind="stable")]
        strata[order] = np.arange(len(rows)) * min(STRATA, max(1, len(rows) // STRATA)) // len(rows)
    return strata


def _interval(measured: Callable[[IntArray], float], places: IntArray, seed: int) -> tuple[float, float]:
    """95 % percentile interval over resampled rows; NaN for fewer than ten."""
    if len(places) < 10:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    again = [measured(rng.choice(places, len(places))) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(again, (0.025, 0.975))
    return float(low), float(high)


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a line per set and proxy."""
    lines = [
        "# Difficulty against published levels",
        "",
        "Spearman's correlation with the level, 95 % interval over rows; in reasoning_gym within each task.",
        "",
        f"| set | proxy | rows | hard share | {' | '.join(KINDS)} | difficulty with completion tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        cells = [_cell(each["correlations"].get(kind)) for kind in KINDS]
        lines.append(
            f"| {each['set']} | {each['proxy']}, {each['steps']} x {each['batch_size']} | {each['rows']} "
            f"| {each['hard_share']:.2f} | {' | '.join(cells)} | {each['with_length']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(correlation: Mapping[str, Any] | None) -> str:
    if correlation is None:
        return "not run"
    if correlation["rho"] is None or correlation["low"] is None:
        return f"too few rows ({correlation['rows']})"
    interval = f"{correlation['low']:+.2f} .. {correlation['high']:+.2f}"
    return f"{correlation['rho']:+.2f} ({interval}), {correlation['rows']} rows"


def _short(value: Any) -> float | None:
    return float(f"{float(value):.4g}") if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
