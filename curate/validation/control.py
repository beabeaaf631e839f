"""A positive control: a task whose late part is known and can be learned, so that copies of hard rows have to help.

base model (knows the frequent skills) -> proxy, split -> budget from a pilot seed -> validate -> table and verdict

Nothing in it is made for the purpose but the rows: everything else is what `curate finetune` and `curate validate` do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
from curate.validation.control_verdict import SETS, results
from curate.validation.validate import validate
from curate.word_problems.skills import Skills

ARMS = (BASELINE, "hard", "random", "easy")
_PARTS = frozenset({ROWS, "base", "pilot.json", "validation"})
Further = Callable[[Curated], Mapping[str, IntArray]]


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
    """Run a control, or go on with one, in the folder `out`; returns its run.json.

    seeds: of fine-tuning, and of the random controls; another call may name more. task: seed of the skills, their rows,
    the base model and the proxy. sizes: None = SIZES. arms: of `curate validate`, at least original, hard and random.
    further: of what was curated, further arms by name: how often each of the n rows is shown, (n,).
    The budget is the first step at which a run on the rows as they are, of a seed that is not judged, has halved the
    loss of the rare skills, asked with questions of its own, and brought it down to a quarter of what guessing costs: a
    model that is wrong with confidence halves its loss before it has learned anything. All arms take that many steps.
    out: rows, base (the run of the base model), pilot.json, validation (as `curate validate` leaves it) and run.json,
    which has under `results` every arm against the original, under `hard_against` the hard arm against the others,
    mixture first, and under `verdict` what came of it.
    Raises InputError for a folder with another control or with other files; ExternalError where a disk fails.
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
    made = validate(str(out / ROWS / "train.parquet"), settings, out / "validation", **machine)
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
        **results(out / "validation", [run["name"] for run in made["runs"]]),
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
    """All arms at the budget: as many epochs of the hard arm as make these steps."""
    tuning = tuning_of(out, sizes)
    return Validation(
        pipeline=curated.pipeline,
        finetuning=tuning,
        evaluation=Evaluation(grader=Exact(), max_tokens=16, precision="float32", batch_size=sizes.questions),
        sets=tuple(EvaluationSet(data=str(out / ROWS / f"{name}.parquet"), name=name) for name in SETS),
        arms=tuple(arms),
        additions=tuple(_addition(out, *each) for each in (further(curated) if further else {}).items()),
        budgets=("steps",),
        epochs=steps * tuning.batch_size / int(curated.plan.counts.sum()),
        seeds=tuple(seeds),
        keep_weights=False,
        pilot="never",
    )


def _check_unfinished(out: Path, inputs: str) -> None:
    """Raise InputError where an unfinished control is another one; else leave the mark of this one."""
    mark = out / UNFINISHED
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() != inputs:
        raise InputError(f"--out {out} holds an unfinished control of another task; name another folder, or remove it")
    publish_file(mark, inputs + "\n")


def _addition(out: Path, name: str, counts: IntArray) -> Addition:
    """An arm of the training rows, each so many times."""
    table = pq.read_table(out / ROWS / "train.parquet").drop_columns(["id"])
    shown = table.take(pa.array(np.repeat(np.arange(len(table)), counts)))
    place = out / ROWS / f"{name}.parquet"
    publish_file(place, parquet(shown))
    return Addition(name=name, data=str(place))
