"""Positive control: a task with a hard part that is known and learnable, so that copies of hard rows must help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.comparison.compare import compare
from curate.comparison.text import UNITS, interval, relative, signed, value
from curate.component import fingerprint
from curate.console.progress import Progress
from curate.curated import Curated
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.finetuning.finetune import finetune
from curate.graders import Exact
from curate.storage.atomic import make_folder, publish_file
from curate.storage.folders import RECORD, UNFINISHED, OutputFolder
from curate.storage.records import own_version, read_record
from curate.types import IntArray
from curate.validation.config import BASELINE, Addition, Validation
from curate.validation.control_task import (
    ROWS,
    SIZES,
    Sizes,
    agreement,
    base_settings,
    found_budget,
    parquet,
    pipeline_of,
    tuning_of,
    write_rows,
)
from curate.validation.validate import validate
from curate.word_problems.skills import Skills

ARMS = (BASELINE, "hard", "random", "easy")
_PARTS = frozenset({ROWS, "base", "pilot.json", "validation"})
Further = Callable[[Curated], Mapping[str, IntArray]]
SETS = ("mixture", "balanced")
REPORTED = (("mixture", "nll"), ("mixture", "accuracy"), ("balanced", "nll"), ("balanced", "accuracy"))
_FEWEST_SEEDS = 3  # with fewer seeds no interval can exclude zero


def control(
    out: Path,
    seeds: Sequence[int],
    task: int = 0,
    *,
    sizes: Sizes | None = None,
    arms: Sequence[str] = ARMS,
    further: Further | None = None,
    cache: Any = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run or resume a control in the folder `out`; returns its run.json.

    The base model knows the frequent skills. A proxy makes the split, and a pilot seed sets the budget.

    seeds: of fine-tuning, and of the random controls; a later call may add more. task: seed of the skills, their rows,
    the base model and the proxy. sizes: None = SIZES. arms: of `curate validate`, at least original, hard and random.
    further: called with the curated result; returns further arms by name as (n,) numbers of times each row is shown.
    The budget is the first step at which a pilot run on the original rows, with its own seed, has halved the
    loss of the rare skills on held-out questions and reduced it to a quarter of the loss of guessing: a
    model that is confidently wrong halves its loss before it has learned anything. All arms take that many steps.
    out: rows, base (the run of the base model), pilot.json, validation (a folder of `curate validate`) and run.json,
    with every arm against the original under `results`, the hard arm against the others under `hard_against`,
    mixture first, and the conclusion under `verdict`.
    Raises InputError for a folder with another control or with other files; ExternalError if a disk fails.
    """
    sizes = sizes or SIZES
    remedy = f"remove {out} and rerun the same command"
    folder = OutputFolder(out, _PARTS)
    inputs = fingerprint([task, vars(sizes), list(arms), further is not None])
    if RECORD in folder.names():
        record = read_record(out / RECORD, remedy, "control")
        if record["inputs"] != inputs:
            raise InputError(f"--out {out} holds the control of another task; name another folder, or remove it")
        if record["seeds"] == list(seeds):
            return record
    make_folder(out)
    _check_unfinished(out, inputs)
    skills, machine = Skills(task, sizes.share), {"cache": cache, "device": device, "progress": progress or Progress()}
    write_rows(skills, sizes, out / ROWS)
    finetune(str(out / ROWS / "known.parquet"), base_settings(sizes, task), out / "base", **machine)
    curated = pipeline_of(out, sizes, task).run(str(out / ROWS / "train.parquet"), **machine)
    budget = found_budget(out, sizes, task, machine["progress"])
    settings = _validation(out, curated, seeds, budget["steps"], sizes, arms, further)
    validation = validate(str(out / ROWS / "train.parquet"), settings, out / "validation", **machine)
    record = {
        "kind": "control",
        "version": own_version(),
        "inputs": inputs,
        "task": task,
        "seeds": list(seeds),
        "sizes": vars(sizes),
        "skills": {"frequent": list(skills.frequent), "rare": list(skills.rare)},
        "split": agreement(curated, skills),
        "budget": budget,
        **results(out / "validation", [run["name"] for run in validation["runs"]]),
    }
    folder.finish(record, ())
    return read_record(out / RECORD, remedy, "control")


def _validation(
    out: Path,
    curated: Curated,
    seeds: Sequence[int],
    steps: int,
    sizes: Sizes,
    arms: Sequence[str],
    further: Further | None,
) -> Validation:
    """All arms at the budget: the hard arm gets as many epochs as make these steps."""
    tuning = tuning_of(out, sizes)
    return Validation(
        pipeline=curated.pipeline,
        finetuning=tuning,
        evaluation=Evaluation(grader=Exact(), max_tokens=16, precision="float32", batch_size=sizes.questions),
        sets=tuple(EvaluationSet(data=str(out / ROWS / f"{name}.parquet"), name=name) for name in SETS),
        arms=tuple(arms),
        additions=tuple(_addition(out, *addition) for addition in (further(curated) if further else {}).items()),
        budgets=("steps",),
        epochs=steps * tuning.batch_size / int(curated.plan.counts.sum()),
        seeds=tuple(seeds),
        keep_weights=False,
        pilot="never",
    )


def _check_unfinished(out: Path, inputs: str) -> None:
    """Raise InputError if the folder holds another unfinished control; else mark it as this one's."""
    mark = out / UNFINISHED
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() != inputs:
        raise InputError(f"--out {out} holds an unfinished control of another task; name another folder, or remove it")
    publish_file(mark, inputs + "\n")


def _addition(out: Path, name: str, counts: IntArray) -> Addition:
    """An arm of the training rows, repeated `counts` times."""
    table = pq.read_table(out / ROWS / "train.parquet").drop_columns(["id"])
    copied = table.take(pa.array(np.repeat(np.arange(len(table)), counts)))
    place = out / ROWS / f"{name}.parquet"
    publish_file(place, parquet(copied))
    return Addition(name=name, data=str(place))


def results(place: Path, runs: Sequence[str]) -> dict[str, Any]:
    """results, hard_against and verdict of the runs of a validation in the folder `place`."""
    against = ("random", "easy")
    folders = [place / "runs" / name for name in runs]
    arms = {name.split("-steps-")[0] for name in runs}
    rows = {name: _rows(compare(folders, name, sets=SETS).record) for name in (BASELINE, *against) if name in arms}
    record = {
        "results": rows[BASELINE],
        "hard_against": [row for name in against if name in rows for row in rows[name] if row["arm"] == "hard"],
    }
    return {**record, "verdict": verdict(rows)}


def _rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = ["arm", "baseline", "set", "metric", "baseline_mean", "arm_mean", "difference", "low", "high"]
    columns += ["relative", "relative_low", "relative_high", "p", "verdict", "seeds", "examples"]
    rows = [
        {key: row[key] for key in columns}
        for row in comparison["differences"]
        if (row["set"], row["metric"]) in REPORTED
    ]
    order = list(dict.fromkeys(row["arm"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["arm"]), REPORTED.index((row["set"], row["metric"]))))


def verdict(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """{came_out, by, sentence} for differences by baseline.

    The control came out if hard is better than original and than random in nats on the mixture and in exact answers on
    all skills alike, by intervals. With one or two seeds, intervals say nothing and estimates decide (by: "estimates");
    nats on the mixture then only must not be worse.
    """
    intervals = {(base, *REPORTED[k]): _one(rows[base], *REPORTED[k]) for base in (BASELINE, "random") for k in (0, 3)}
    basis = "intervals" if min(row["seeds"] for row in intervals.values()) >= _FEWEST_SEEDS else "estimates"
    failed = [key for key, row in intervals.items() if not _holds(row, basis)]
    nats, answers = intervals[BASELINE, "mixture", "nll"], intervals[BASELINE, "balanced", "accuracy"]
    random, balanced = intervals["random", "mixture", "nll"], intervals["random", "balanced", "accuracy"]
    if failed:
        base, _, metric = failed[0]
        row = intervals[failed[0]]
        measure = "nats per token on the mixture" if metric == "nll" else "exact answers of all skills alike"
        sentence = (
            f"The control failed: {measure}, hard against {base}: {signed(metric, row['difference'])} "
            f"({interval(metric, dict(row))}; {UNITS[metric]}); where this effect is not found, "
            "finding none in your own data says little."
        )
    else:
        sentence = (
            f"The control passed: copies of hard rows change nats per token (mixture) by {relative(nats['relative'])} "
            f"and exact answers of all skills alike from {value('accuracy', answers['baseline_mean'])} to "
            f"{value('accuracy', answers['arm_mean'])}; against as many random copies by "
            f"{relative(random['relative'])} and {signed('accuracy', balanced['difference'])} points."
        )
        if basis == "estimates":
            sentence += (
                f" This goes by the estimates alone: {nats['seeds']} seed(s) are too few for intervals (--seeds 5)."
            )
    return {"came_out": not failed, "by": basis, "sentence": sentence}


def _one(rows: Sequence[Mapping[str, Any]], set_name: str, metric: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["arm"], row["set"], row["metric"]) == ("hard", set_name, metric))


def _holds(row: Mapping[str, Any], basis: str) -> bool:
    if basis == "intervals":
        return bool(row["verdict"] == "better")
    return bool(row["difference"] <= 0 if row["metric"] == "nll" else row["difference"] > 0)
