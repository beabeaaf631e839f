"""Compare all scorers on data of known difficulty: accuracy, cost and overlap."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr

import scorers
from benchmarks.known_levels import auc
from curate import Proxy, Run, read
from curate.data.readers import Loaded
from curate.difficulty.scores import as_scores
from curate.models.loading import load_model
from curate.models.scratch import scratch_model, scratch_tokenizer
from curate.storage.atomic import publishing
from curate.tokenization.encoding import tokenize
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.word_problems.table import generate

_DETAILS = """\
    python -m benchmarks.signals --out DIR [--math MATH.parquet] [--rows 1000] [--record FILE] [--figure FILE.svg]

Two sets: the generated word problems of `curate.word_problems` (levels 1 to 4 by construction, alike in length) and
MATH (levels 1 to 5 as published). One small transformer per set, of random weights, is the proxy of all signals: its
run is shared, and what each signal takes beyond that run is timed. `Learnability` gets a reference trained on rows that
are not judged, `GradientAlignment` a target of such rows of the highest level: it is told what is hard, all others
are not.

auc: of the difficulty for the upper levels (3 and 4; 4 and 5) against the others; within_source: the mean over sources
of the same, where the data has them. spearman: with the level. length: with the completion's length. passes: forward
passes per row, a backward pass counted as two; seconds: measured, on one thread. overlap: Jaccard index of the quarters
of the rows that two signals call hardest; two that have nothing to do with each other share 0.14.
"""

CHECKPOINTS = 4
HARDEST = 0.25
BACKWARD = 2  # a backward pass costs two forward passes


@dataclass(frozen=True)
class Set:
    """Rows to judge, rows beside them, and the levels from which on a row counts as hard."""

    name: str
    judged: pa.Table
    beside: pa.Table
    hard_from: int
    columns: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for models and what is measured")
    parser.add_argument("--math", type=Path, help="Parquet file with question, answer, level, subject and split")
    parser.add_argument("--rows", type=int, default=1000, help="to judge, of each set; as many stand beside them")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = [_demo(options.rows)] + ([_math(options.math, options.rows)] if options.math else [])
    results = {each.name: _judge(each, options.out / each.name) for each in sets}
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.signals", *sys.argv[1:]]),
        "rows": options.rows,
        "checkpoints": CHECKPOINTS,
        "sets": results,
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")},
    }
    for name, result in results.items():
        print(
            f"\n{name}\n{'signal':<34} {'auc':>6} {'within':>6} {'rho':>6} {'length':>6} {'passes':>7} {'seconds':>8}"
        )
        for row in result["signals"]:
            print(
                "{signal:<34} {auc:6.2f} {within_source:6.2f} {spearman:6.2f} {length:6.2f} {passes:7.1f} "
                "{seconds:8.1f}".format(**row)
            )
    if options.record:
        options.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.figure:
        _draw(results, options.figure)
    return 0


def _demo(rows: int) -> Set:
    table = generate(n=2 * rows, seed=0)
    return Set("demo", table.slice(0, rows), table.slice(rows), 3, "level")


def _math(path: Path, rows: int) -> Set:
    table = pq.read_table(path)
    pairs = zip(table["split"].to_pylist(), table["level"].to_pylist(), strict=True)
    kept = [i for i, (split, level) in enumerate(pairs) if split == "train" and level in {"1", "2", "3", "4", "5"}]
    drawn = np.random.default_rng(0).permutation(kept)[: 2 * rows]
    table = table.take(pa.array(drawn)).drop_columns(["source"]).rename_columns({"subject": "source"})
    return Set("math", table.slice(0, rows), table.slice(rows), 4, "level")


def _read(table: pa.Table) -> Loaded:
    names = table.column_names
    roles = "prompt=question,completion=answer" if "question" in names else "prompt=prompt,completion=completion"
    return read(table, columns=f"{roles},source=source,id=id")


def _models(dataset: Set, place: Path) -> tuple[Path, Path]:
    """The proxy before it is trained, with a tokenizer of all rows; and the reference, trained on the rows beside."""
    if not (place / "proxy").is_dir():
        both = _read(pa.concat_tables([dataset.judged, dataset.beside])).examples
        tokenizer = scratch_tokenizer(both, 0)

        with publishing(place / "proxy") as folder:
            scratch_model(tokenizer, 512, 0).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    if not (place / "reference").is_dir():
        model, tokenizer = load_model(str(place / "proxy")), _tokenizer(place / "proxy")
        tokens = tokenize(_read(dataset.beside).examples, tokenizer, template="plain", max_length=512)
        steps = round(3 * len(dataset.beside) / 32)
        for _ in train(model, tokens, TrainConfig(steps=steps, learning_rate=1e-3), checkpoint_steps=[steps]):
            pass

        with publishing(place / "reference") as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return place / "proxy", place / "reference"


def _tokenizer(folder: Path) -> Any:
    from curate.models.loading import load_tokenizer

    return load_tokenizer(str(folder))


def _signals(reference: Path, target: pa.Table) -> dict[str, tuple[Any, float]]:
    """Name -> scorer, and forward passes per row beyond those of the losses, which all share (K of them)."""
    k = CHECKPOINTS
    pair = {"scorers": (scorers.LossTrajectory(), scorers.InstructionFollowingDifficulty())}
    # Scorer -> name of a variant, its settings, its passes. Any other scorer: one variant of losses alone.
    variants: dict[str, list[tuple[str, dict[str, Any], float]]] = {
        "LossTrajectory": [("", {}, 0), (", relative", {"features": "relative"}, 0)],
        "Learnability": [("", {"reference": str(reference)}, 1)],
        "EarlyOutput": [(", hidden", {}, 1), (", distribution", {"output": "distribution"}, 1)],
        "ErrorNorm": [("", {}, k)],
        "ForgettingCount": [("", {}, k)],
        "InstructionFollowingDifficulty": [("", {}, 2 * k)],
        "SAMSharpness": [
            (", shared", {}, 2 * k + (1 + BACKWARD) * k),
            (", own", {"ascent": "example"}, k + (1 + BACKWARD) * k),
        ],
        "GradientAlignment": [
            (", last layer", {"target": target, "parameters": "last-layer"}, k),
            (", lora", {"target": target, "parameters": "lora"}, (1 + BACKWARD) * k),
        ],
        "RankAverage": [(" of loss and IFD", pair, 2 * k)],
        "Product": [(" of loss and IFD", pair, 2 * k)],
    }
    names = [name for name in scorers.__all__ if name != "PreMemorizationAccuracy"]  # which grades answers instead
    return {
        name + suffix: (getattr(scorers, name)(**settings), passes)
        for name in names
        for suffix, settings, passes in variants.get(name, [("", {}, 0)])
    }


def _judge(dataset: Set, place: Path) -> dict[str, Any]:
    """Every signal on the rows of a set."""
    proxy, reference = _models(dataset, place)
    examples = _read(dataset.judged).examples
    levels = np.array([int(level) for level in dataset.judged["level"].to_pylist()])
    sources = np.array(dataset.judged["source"].to_pylist(), object)
    highest = str(max(levels))
    hard_rows = dataset.beside.filter(
        pa.array([str(level) == highest for level in dataset.beside["level"].to_pylist()])
    ).slice(0, 64)
    settings = Proxy(
        model=str(proxy), steps=300, checkpoints=CHECKPOINTS, horizon=900, learning_rate=1e-3, template="plain"
    )
    run = Run(settings, place / "cache", "cpu")
    began = time.process_time()
    scorers.LossTrajectory().score(examples, run)
    shared = time.process_time() - began
    lengths = np.array([len(text) for text in examples.texts("completion", 0, len(examples))])
    rows, difficulties = [], {}
    for name, (scorer, passes) in _signals(reference, _as_given(hard_rows)).items():
        began = time.process_time()
        scores = as_scores(scorer.score(examples, run), len(examples))
        seconds = time.process_time() - began
        valid, difficulty = scores.valid, scores.difficulty
        difficulties[name] = np.where(valid, difficulty, -np.inf)
        hard = levels >= dataset.hard_from
        groups = [valid & (sources == source) for source in sorted(set(sources))]
        inside = [auc(difficulty[group], hard[group]) for group in groups if 0 < hard[group].mean() < 1]
        rows.append(
            {
                "signal": name,
                "auc": auc(difficulty[valid], hard[valid]),
                "within_source": float(np.mean(inside)),
                "spearman": float(spearmanr(difficulty[valid], levels[valid]).statistic),
                "length": float(spearmanr(difficulty[valid], lengths[valid]).statistic),
                "passes": float(passes),
                "seconds": round(seconds, 2),
            }
        )
        print(f"{dataset.name}: {name} {rows[-1]['auc']:.2f} in {seconds:.0f} s", file=sys.stderr, flush=True)
    return {
        "rows": len(examples),
        "levels": {int(level): int((levels == level).sum()) for level in np.unique(levels)},
        "proxy_seconds": round(shared, 1),
        "signals": rows,
        "overlap": _overlap(difficulties),
    }


def _as_given(table: pa.Table) -> pa.Table:
    """The target with no column that a reader would take for one of its own."""
    return table.select([name for name in table.column_names if name in ("question", "answer", "prompt", "completion")])


def _overlap(difficulties: dict[str, Any]) -> list[list[float]]:
    """Jaccard index of the hardest quarters, signal by signal."""
    tops = []
    for values in difficulties.values():
        count = round(HARDEST * len(values))
        tops.append(set(np.argsort(-values, kind="stable")[:count].tolist()))
    return [[round(len(a & b) / len(a | b), 3) for b in tops] for a in tops]


def _draw(results: dict[str, Any], path: Path) -> None:
    """Per set: AUC against cost, and the overlap matrix."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "signals"
    figure, axes = plt.subplots(len(results), 2, figsize=(15, 6.5 * len(results)), squeeze=False, layout="constrained")
    for (name, result), (left, right) in zip(results.items(), axes, strict=True):
        names = [row["signal"] for row in result["signals"]]
        values = [row["auc"] for row in result["signals"]]
        order = np.argsort(values)
        left.barh([names[i] for i in order], [values[i] for i in order], color="#4477aa")
        left.axvline(0.5, color="black", linewidth=0.8)
        for place, i in enumerate(order):
            left.text(values[i] + 0.005, place, f"{result['signals'][i]['passes']:g}", va="center", fontsize=8)
        left.set_xlim(0, 1)
        left.set_title(f"{name}: AUC for the upper levels (number: further passes per row)")
        image = right.imshow(result["overlap"], cmap="viridis", vmin=0, vmax=1)
        right.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        right.set_yticks(range(len(names)), names, fontsize=8)
        right.set_title(f"{name}: overlap of the hardest quarters (Jaccard)")
        figure.colorbar(image, ax=right, shrink=0.7)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
