"""Benchmark the overhead of reweighters per training step, in the project's loop and in `transformers.Trainer`."""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.models.loading import load_model
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss, TrainingRows
from curate.tokenization.tokens import Tokens
from curate.training.config import StepRecord, TrainConfig
from curate.training.loop import train

_DETAILS = """\
    python benchmarks/reweighting_overhead.py [--model FOLDER] [--steps 40] [--every 10] [--batch 8] [--domains 4]
        [--anchors 32] [--parts 4] [--repeats 5] [--precision float32] [--out FILE.json]

Without --model: a random Llama of 14 million parameters. All runs go on side by side, one step of each in turn, on the
same rows; the order turns with the steps. Overhead is a median of ratios to the run without reweighter at the same
step, less 1. Where a reweighter looks at the model every so many steps, those steps are left out of that median, and
what they take longer, in steps, is shared out over the steps between two looks: --every for DGA, 100 (its default) for
ADAPT. The first --every steps warm up and are left out.

Limits: DynamicLoss and IRDRO 3 %%, where a batch is one micro-batch; ADAPT 35 %%; DGA (domains + 1) / every + 3 %%, its
mini-batches being as large as a batch. A batch of several micro-batches is looked at once more, without gradients: 35
%% as well. In Trainer, whole runs alternate, and median steps are compared.
"""

CHEAP, LOOK = 0.03, 0.35  # of a step


class Ones:
    """Weights of 1."""

    def weights(self, batch: Any, outputs: Any) -> torch.Tensor:
        return torch.ones_like(outputs.losses)


@dataclass(frozen=True)
class Variant:
    """A reweighter (None: without), and how it is measured.

    parts: of a batch. limit: of its overhead. period: steps between two looks at the model, None = it takes none.
    spread: steps over which a look is shared out.
    """

    reweighter: Any
    parts: int = 1
    limit: float | None = None
    period: int | None = None
    spread: int = 1


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    warnings.simplefilter("ignore")
    model, tokens = the_model(options), random_rows(options.rows, options.seed, options.vocabulary)
    measured = side_by_side(model, tokens, variants(options), options)
    found = compared(measured, variants(options), options.every)
    if options.repeats:
        found |= in_trainer(model, tokens, options)
    record = {
        "command": shlex.join(["python", "benchmarks/reweighting_overhead.py", *(arguments or sys.argv[1:])]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "mean_tokens": round(float(tokens.lengths.mean()), 1),
        "overheads": found,
        "seconds": {name: [round(each, 4) for each in seconds] for name, seconds in measured.items()},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "machine": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
        "python": platform.python_version(),
    }
    for name, each in found.items():
        limit = "" if each["limit"] is None else f", limit {each['limit']:.1%}"
        low, high = each["quartiles"]
        print(f"{name}: {each['median']:+.1%} (quartiles {low:+.1%}, {high:+.1%}{limit})")
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any(each["within"] is False for each in found.values()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder or hub id; a random Llama if left out")
    parser.add_argument("--width", type=int, default=384, help="of the random Llama")
    parser.add_argument("--layers", type=int, default=6, help="of the random Llama")
    parser.add_argument("--vocabulary", type=int, default=8000, help="token ids that occur")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--steps", type=int, default=40, help="that are measured, a multiple of --every")
    parser.add_argument("--every", type=int, default=10, help="steps between two looks of ADAPT and DGA at the model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--domains", type=int, default=4)
    parser.add_argument("--anchors", type=int, default=32, help="rows that ADAPT looks at")
    parser.add_argument("--parts", type=int, default=4, help="micro-batches where there are several")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind in Trainer; 0 = none")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.steps % options.every:
        parser.error(f"--steps {options.steps} is no multiple of --every {options.every}")
    return options


def the_model(options: argparse.Namespace) -> Any:
    """On the device to measure on."""
    if options.model:
        model = load_model(options.model)
        options.vocabulary = min(options.vocabulary, model.get_input_embeddings().weight.shape[0])
    else:
        import transformers

        torch.manual_seed(options.seed)
        config = transformers.LlamaConfig(
            vocab_size=options.vocabulary,
            hidden_size=options.width,
            intermediate_size=options.width * 8 // 3,
            num_hidden_layers=options.layers,
            num_attention_heads=max(1, options.width // 64),
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
        model = transformers.LlamaForCausalLM(config)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def random_rows(n: int, seed: int, vocabulary: int) -> Tokens:
    """n rows of random tokens, prompts and completions of 10 to 49 tokens each."""
    random = np.random.default_rng(seed)
    prompts, completions = random.integers(10, 50, (2, n))
    offsets = np.concatenate([[0], np.cumsum(prompts + completions)]).astype(np.int64)
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], prompts + completions)
    supervised = inside >= np.repeat(prompts, prompts + completions)
    ids = random.integers(0, vocabulary, offsets[-1]).astype(np.int32)
    return Tokens(ids, supervised, offsets, np.ones(n, bool), *np.zeros((2, n), np.int32))


def variants(options: argparse.Namespace) -> dict[str, Variant]:
    """What is measured, by name. Those without a reweighter are what the others are compared with."""
    every, parts = options.every, options.parts
    looking = {"period": every, "limit": LOOK, "spread": ADAPT.model_fields["refresh_every"].default}
    adapt = ADAPT(anchors=[], refresh_every=every)
    dga = DGA(target=[], domains="domain", refresh_every=every, rows_per_gradient=options.batch)
    return {
        "none": Variant(None),
        "DynamicLoss": Variant(DynamicLoss(), limit=CHEAP),
        "IRDRO": Variant(IRDRO(), limit=CHEAP),
        "ADAPT": Variant(adapt, **looking),
        "DGA": Variant(dga, 1, (options.domains + 1) / every + CHEAP, every, every),
        f"none, {parts} parts": Variant(None, parts),
        f"DynamicLoss, {parts} parts": Variant(DynamicLoss(), parts, limit=LOOK),
        f"ADAPT, {parts} parts": Variant(adapt, parts, **looking),
    }


def side_by_side(
    model: Any, tokens: Tokens, runs: dict[str, Variant], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of every step of every run, warm-up included. They take turns, and each starts as often as any other."""
    domains = [f"domain {row % options.domains}" for row in range(len(tokens))]
    further = random_rows(max(options.anchors, options.batch), options.seed + 1, options.vocabulary)
    rows = TrainingRows({"domain": domains}, tokenize=lambda data, reading: further)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    steps = options.steps + options.every
    going = {}
    for name, run in runs.items():
        # Packed or padded, a batch is then cut into about so many parts.
        budget = 10**6 if run.parts == 1 else int(options.batch * tokens.lengths.mean() / run.parts * 1.2)
        config = TrainConfig(
            steps=steps,
            batch_size=options.batch,
            precision=options.precision,
            micro_batch_tokens=max(budget, int(tokens.lengths.max())),
            seed=options.seed,
        )
        going[name] = train(
            copy.deepcopy(model),
            tokens,
            config,
            checkpoint_steps=lambda step: True,
            reweighter=run.reweighter,
            rows=rows,
            log=_noting(seconds[name]),
        )
    names = list(runs)
    for step in range(steps + 1):
        turn = step % len(names)
        for name in names[turn:] + names[:turn]:
            next(going[name])
    for generator in going.values():
        generator.close()
    return seconds


def _noting(seconds: list[float]) -> Callable[[StepRecord], None]:
    def note(record: StepRecord) -> None:
        seconds.append(record.seconds - sum(seconds))

    return note


def compared(measured: dict[str, list[float]], runs: dict[str, Variant], warm_up: int) -> dict[str, dict[str, Any]]:
    """Overhead of every reweighter against the run without one that has as many parts."""
    plain = {run.parts: name for name, run in runs.items() if run.reweighter is None}
    return {
        name: overhead(measured[name][warm_up:], measured[plain[run.parts]][warm_up:], run)
        for name, run in runs.items()
        if run.reweighter is not None
    }


def overhead(seconds: Sequence[float], plain: Sequence[float], run: Variant) -> dict[str, Any]:
    """Of steps against others at the same places, as a share of a step; looks at the model are at multiples of
    `run.period`.

    median and quartiles: of all a step takes longer, a look's share included. look: how much longer a step with a look
    takes than one without, in steps.
    """
    seconds_with, plain_seconds = np.array(seconds), np.array(plain)
    looks = np.arange(len(seconds_with)) % run.period == 0 if run.period else np.zeros(len(seconds_with), bool)
    ratios = seconds_with[~looks] / plain_seconds[~looks] - 1
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    step = float(np.median(plain_seconds))
    look = float(np.median(seconds_with[looks] - plain_seconds[looks] * (1 + median))) / step if looks.any() else 0.0
    overhead_share = median + look / run.spread
    return {
        "median": round(overhead_share, 4),
        "quartiles": [round(low + look / run.spread, 4), round(high + look / run.spread, 4)],
        "look": round(look, 3),
        "steps": len(seconds_with),
        "limit": None if run.limit is None else round(run.limit, 4),
        "within": None if run.limit is None else overhead_share <= run.limit,
    }


def in_trainer(model: Any, tokens: Tokens, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """DynamicLoss in `transformers.Trainer`, and weights of 1, against the stock loss and against each other."""
    kinds = {"stock": None, "ones": Ones(), "DynamicLoss": DynamicLoss()}
    medians: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(options.repeats + 1):
        for name, reweighter in kinds.items():
            seconds = _trainer_steps(copy.deepcopy(model), tokens, reweighter, options)
            if repeat:  # the first round warms up
                medians[name].append(statistics.median(seconds[1:]))
    return {
        "Trainer: weights of 1 against the stock loss": overhead(medians["ones"], medians["stock"], Variant(None)),
        "Trainer: DynamicLoss against weights of 1": overhead(
            medians["DynamicLoss"], medians["ones"], Variant(None, limit=CHEAP)
        ),
    }


def _trainer_steps(model: Any, tokens: Tokens, reweighter: Any, options: argparse.Namespace) -> list[float]:
    """Seconds of each step of a run of --every steps."""
    import transformers

    from curate.reweighters.trainers import reweight

    class Clock(transformers.TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.marks.append(time.perf_counter())

    rows = [
        {
            "input_ids": tokens.ids[low:high].tolist(),
            "labels": np.where(tokens.supervised[low:high], tokens.ids[low:high], -100).tolist(),
        }
        for low, high in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=options.batch,
            max_steps=options.every + 1,
            bf16=options.precision == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=options.seed,
        )
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, data_collator=_padded, callbacks=[clock])
        if reweighter is not None:
            reweight(trainer, reweighter)
        trainer.train()
    return np.diff(clock.marks).tolist()


def _padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def column(name: str, value: int) -> torch.Tensor:
        return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])

    real = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": column("input_ids", 0),
        "labels": column("labels", -100),
        "attention_mask": torch.tensor(real),
    }


if __name__ == "__main__":
    sys.exit(main())
