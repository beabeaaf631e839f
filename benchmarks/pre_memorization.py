"""Measure how well pre-memorization train accuracy predicts test accuracy, on small transformers."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.pre_memorization_summary import Array, Curves, FineTuning, draw, summary
from benchmarks.reproduction.problems import problems
from curate.seeds import derive_seed
from scorers.sampled_accuracy import sampled_accuracy

_DETAILS = """\
    python -m benchmarks.pre_memorization [--seed N] [--out FOLDER]

Kang et al. (arXiv 2411.07681) find that over runs of different learning rate, length and data, the mean accuracy on
training examples before they are memorized explains test accuracy with an R^2 of 0.9 or more, where plain train
accuracy explains little. Here one small Llama is trained from random weights on easy arithmetic and then fine-tuned on
few, harder problems in the ways of RUNS. After every epoch (in the longest run every fourth): answers drawn for SAMPLED
training rows and TESTED test rows (same mixture, no question in common), and the loss of the worked solutions of the
former.

The arithmetic is that of `benchmarks.reproduction.problems`, whose worked steps follow from the question; a low loss
would then say nothing of memory. So every solution is worded at random (`worded`): that wording cannot be foreseen, and
a loss near zero means that this very solution is known by heart.

The threshold p is swept, and calibrated on held-out runs: for the points of each run, the p is taken with which the
other runs are explained best. Writes pre-memorization-cpu.json and .svg to FOLDER. One thread.
"""

# Equally likely, one token each: an opening is 2 ln 32 = 6.9 nats that nothing foretells.
WORDS = (
    *("so", "then", "thus", "hence", "next", "now", "also", "well", "first", "right", "here", "clearly"),
    *("surely", "okay", "fine", "indeed", "again", "still", "just", "let", "see", "look", "take", "find", "note"),
    *("think", "write", "count", "work", "start", "begin", "solve"),
)
OPENING = 2
FAMILIES = ("sum", "reversal")
EASY, HARD = {1: 0.6, 2: 0.4}, {1: 0.25, 2: 0.4, 3: 0.35}  # level -> weight: before and in fine-tuning
PRETRAIN_ROWS, PRETRAIN_EPOCHS, PRETRAIN_RATE = 8_000, 3, 3e-3
HIDDEN, LAYERS, MAX_LENGTH, BATCH = 96, 3, 96, 8
SAMPLED, TESTED = 100, 240  # training rows that are looked at, and test rows
SAMPLES, TEST_SAMPLES, TEMPERATURE, TOP_P = 5, 2, 0.8, 0.95
AT_ONCE = 400
FULL = 480
RUNS = (
    *(FineTuning(f"3 epochs, {rate:g}", FULL, 3, rate) for rate in (2e-4, 1e-3, 4e-3)),
    *(FineTuning(f"6 epochs, {rate:g}", FULL, 6, rate) for rate in (2e-4, 1e-3, 3e-3)),
    *(FineTuning(f"half, 12 epochs, {rate:g}", FULL // 2, 12, rate) for rate in (1e-3, 3e-3)),
    *(FineTuning(f"quarter, 16 epochs, {rate:g}", FULL // 4, 16, rate) for rate in (1e-3, 3e-3)),
    FineTuning("quarter, 48 epochs, 0.003", FULL // 4, 48, 3e-3, 4),
)


def drawn(n: int, mixture: dict[int, float], split: str, seed: int) -> pa.Table:
    """n problems of two FAMILIES, those that so small a model learns within a minute."""
    table = problems(2 * n + 16, mixture, split, seed)  # a little more than needed: shares are rounded
    kept = table.filter(pc.is_in(table["source"], pa.array(FAMILIES)))
    return kept.slice(0, n)


def worded(table: pa.Table, seed: int) -> pa.Table:
    """The problems with OPENING words, drawn at random row by row, before every solution."""
    solutions = []
    for example_id, answer in zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True):
        rng = np.random.default_rng(derive_seed(seed, "wording", example_id))
        solutions.append(f"{' '.join(rng.choice(WORDS, OPENING))}\n{answer}")
    return table.set_column(table.column_names.index("answer"), "answer", pa.array(solutions))


# -- the runs ---------------------------------------------------------------------------------------------------------


class Bench:
    """The data of one seed, the model before fine-tuning, and what is asked of it after every epoch."""

    def __init__(self, seed: int) -> None:
        from benchmarks.reproduction.preparation import loaded, small_llama
        from curate.models.scratch import scratch_tokenizer

        self.seed = seed
        easy = loaded(worded(drawn(PRETRAIN_ROWS, EASY, "pretrain", seed), seed))
        self.training = worded(drawn(FULL, HARD, "train", seed), seed)
        self.testing = worded(drawn(TESTED, HARD, "test", seed), seed)
        self.tokenizer = scratch_tokenizer(easy.examples, seed)
        self.tokens = self._tokens(self.training)
        model = small_llama(self.tokenizer, HIDDEN, LAYERS, MAX_LENGTH, seed)
        steps = PRETRAIN_ROWS * PRETRAIN_EPOCHS // 32
        self._train(model, self._tokens(easy.examples.table), steps, 32, PRETRAIN_RATE, [steps])
        self.start = model

    def _tokens(self, table: pa.Table) -> Any:
        from benchmarks.reproduction.preparation import loaded
        from curate.tokenization.encoding import tokenize

        return tokenize(loaded(table).examples, self.tokenizer, template="plain", max_length=MAX_LENGTH)

    def _train(
        self, model: Any, tokens: Any, steps: int, batch: int, rate: float, at: list[int], look: Any = None
    ) -> None:
        from curate.training.config import TrainConfig
        from curate.training.loop import train

        config = TrainConfig(
            steps=steps,
            batch_size=batch,
            learning_rate=rate,
            schedule="linear",
            precision="float32",
            seed=derive_seed(self.seed, "training", batch, steps),
        )
        for checkpoint in train(model, tokens, config, checkpoint_steps=at):
            if look is not None:
                look(checkpoint.step)

    def accuracy(self, model: Any, table: pa.Table, samples: int, step: int) -> Array:
        """(n,) share of right answers to each problem."""
        from curate.generators.requests import Sampling

        longest = int(self.tokens.completion_tokens.max()) + 8
        return sampled_accuracy(
            model,
            self.tokenizer,
            [f"{question}\n" for question in table["question"].to_pylist()],
            table["final_answer"].to_pylist(),
            [derive_seed(self.seed, "samples", step, example_id) for example_id in table["id"].to_pylist()],
            samples=samples,
            sampling=Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=longest),
            batch_size=AT_ONCE,
        ).astype(np.float64)

    def fine_tune(self, run: FineTuning) -> Curves:
        """The run from the start, looked at every so many epochs. The rows looked at are in every run's data."""
        import copy

        from curate.models.scoring import score_losses

        model = copy.deepcopy(self.start)
        seen, points = self.tokens.take(np.arange(SAMPLED)), list[tuple[Array, Array, float]]()

        def look(step: int) -> None:
            accuracy = self.accuracy(model, self.training.slice(0, SAMPLED), SAMPLES, step)
            nll = score_losses(model, seen, precision="float32", compile=False).astype(np.float64)
            points.append((accuracy, nll, float(self.accuracy(model, self.testing, TEST_SAMPLES, step).mean())))

        at = [round(run.rows * epoch / BATCH) for epoch in range(run.every, run.epochs + 1, run.every)]
        self._train(model, self.tokens.take(np.arange(run.rows)), at[-1], BATCH, run.learning_rate, at, look)
        accuracy, nll, test = (np.array(each) for each in zip(*points, strict=True))
        return Curves(run, accuracy, nll, test)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    started, load = time.process_time(), os.getloadavg()[0]
    bench, runs = Bench(options.seed), list[Curves]()
    print(f"start: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
    for run in RUNS:
        runs.append(bench.fine_tune(run))
        print(_line(runs[-1], time.process_time() - started), file=sys.stderr, flush=True)
    names = (
        "PRETRAIN_ROWS",
        "PRETRAIN_EPOCHS",
        "HIDDEN",
        "LAYERS",
        "BATCH",
        "SAMPLED",
        "TESTED",
        "SAMPLES",
        "TEST_SAMPLES",
    )
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.pre_memorization", *(arguments or sys.argv[1:])]),
        "seed": options.seed,
        "settings": {name.lower(): globals()[name] for name in names} | {"easy": EASY, "hard": HARD},
        "parameters": sum(p.numel() for p in bench.start.parameters()),
        "runs": [asdict(run) for run in RUNS],
        **summary(runs),
        "cpu_seconds": round(time.process_time() - started, 1),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "pre-memorization-cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, path.with_suffix(".svg"))
    print(json.dumps({key: record[key] for key in ("r2", "r2_last_epochs", "p_of_all_runs", "cpu_seconds")}, indent=1))
    return 0


def _line(curves: Curves, seconds: float) -> str:
    shown = (curves.accuracy.mean(axis=1), curves.nll.mean(axis=1), curves.test)
    cells = "  ".join(" ".join(f"{x:.2f}" for x in values) for values in shown)
    return f"{curves.run.name}: accuracy, nll, test: {cells} ({seconds:.0f} CPU s)"


if __name__ == "__main__":
    sys.exit(main())
