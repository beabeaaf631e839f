"""A positive control: a task whose late part is known and can be learned, so that copies of hard rows have to help.

base model (knows the frequent skills) -> proxy, split -> budget from a pilot seed -> validate -> table and verdict

Nothing in it is made for the purpose but the rows: everything else is what `curate finetune` and `curate validate` do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import models, training
from curate.comparison.compare import compare
from curate.comparison.text import UNITS, interval, relative, signed, value
from curate.component import fingerprint
from curate.console.progress import Progress
from curate.curated import Curated
from curate.data.readers import read
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.graders import Exact
from curate.pipeline import Pipeline
from curate.seeds import derive_seed
from curate.storage.atomic import make_folder, publish_file
from curate.storage.folders import RECORD, UNFINISHED, OutputFolder
from curate.storage.records import own_version, read_record, record_text
from curate.tokenization.encoding import tokenize
from curate.types import IntArray
from curate.validation.config import BASELINE, Addition, Validation
from curate.validation.validate import validate
from curate.word_problems.skills import LENGTH, SYMBOLS, Skills, counts_of

ARMS = (BASELINE, "hard", "random", "easy")
SETS = ("mixture", "balanced")
_REPORTED = (("mixture", "nll"), ("mixture", "accuracy"), ("balanced", "nll"), ("balanced", "accuracy"))
_MAX_LENGTH = 32
_FEWEST_SEEDS = 3  # with fewer no interval can exclude zero
_PARTS = frozenset({"rows", "base", "pilot.json", "validation"})


@dataclass(frozen=True)
class Sizes:
    """How large a control is.

    rows: training rows, a share `share` of them of rare skills. questions: of each evaluation set.
    known: rows of each frequent skill that the base model is trained on for `base_steps` steps; named: rows of each
        rare one among them, so that its name is no new word.
    proxy_steps: of the proxy, which is the base model. times: extra copies of hard rows.
    learning_rate: of fine-tuning, constant after warm-up. most_steps: within which the budget is looked for.
    """

    rows: int = 2_000
    share: float = 0.1
    questions: int = 400
    known: int = 1_500
    named: int = 8
    base_steps: int = 350
    proxy_steps: int = 30
    times: int = 2
    learning_rate: float = 5e-4
    most_steps: int = 200


SIZES = Sizes()


def control(
    out: Path,
    seeds: Sequence[int],
    task: int = 0,
    *,
    sizes: Sizes | None = None,
    arms: Sequence[str] = ARMS,
    further: Callable[[Curated], Mapping[str, IntArray]] | None = None,
    cache: Any = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a control, or go on with one, in the folder `out`; returns its run.json.

    seeds: of fine-tuning, and of the random controls. task: seed of the skills, their rows, the base model and the
    proxy. sizes: None = SIZES. arms: of `curate validate`, at least original, hard and random.
    further: of what was curated, further arms by name: how often each of the n rows is shown, (n,).
    The budget is the first step at which a run on the rows as they are, of a seed that is not judged, has halved the
    loss of the rare skills, asked with questions of its own, and brought it down to a quarter of what guessing costs: a
    model that is wrong with confidence halves its loss before it has learned anything. All arms take that many steps.
    out: rows, base (the run of the base model), pilot.json, validation (as `curate validate` leaves it) and run.json,
    which has under `results` every arm against the original, under `hard_against` the hard arm against the others,
    mixture first, and under `verdict` what came of it.
    Raises InputError for a folder with another control or with other files; ExternalError where a disk fails.
    """
    sizes, progress = sizes or SIZES, progress or Progress()
    folder = OutputFolder(out, _PARTS)
    inputs = fingerprint([task, vars(sizes), list(seeds), list(arms), further is not None])
    if RECORD in folder.names():
        other = "holds the control of another task or other seeds"
        if folder.matches(RECORD, inputs, fresh=False, again="run it anew", other=other, kind="control"):
            return read_record(out / RECORD, f"remove {out} and rerun the same command", "control")
    make_folder(out)
    _check_unfinished(out, inputs)
    skills = Skills(task, sizes.share)
    _write_rows(skills, sizes, out / "rows")
    machine: dict[str, Any] = {"cache": cache, "device": device}
    base = out / "base"
    finetune(str(out / "rows" / "known.parquet"), _base_settings(sizes, task), base, **machine, progress=progress)
    pipeline = _pipeline(base / "model", sizes, task)
    curated = pipeline.run(str(out / "rows" / "train.parquet"), **machine, progress=progress)
    budget = _budget(out, skills, sizes, task, progress)
    tuning = _tuning(base / "model", sizes)
    rows = int(curated.plan.counts.sum())
    settings = Validation(
        pipeline=pipeline,
        finetuning=tuning,
        evaluation=Evaluation(grader=Exact(), max_tokens=16, precision="float32", batch_size=sizes.questions),
        sets=tuple(EvaluationSet(data=str(out / "rows" / f"{name}.parquet"), name=name) for name in SETS),
        arms=tuple(arms),
        additions=tuple(_addition(out, *each) for each in (further(curated) if further else {}).items()),
        budgets=("steps",),
        epochs=budget["steps"] * tuning.batch_size / rows,
        seeds=tuple(seeds),
        keep_weights=False,
    )
    place = out / "validation"
    made = validate(str(out / "rows" / "train.parquet"), settings, place, **machine, progress=progress)
    record = {
        "kind": "control",
        "version": own_version(),
        "inputs": inputs,
        "task": task,
        "seeds": list(seeds),
        "sizes": vars(sizes),
        "skills": {"frequent": list(skills.frequent), "rare": list(skills.rare)},
        "split": _split(curated, skills),
        "budget": budget,
        **results(place, [run["name"] for run in made["runs"]]),
    }
    folder.finish(record, ())
    return read_record(out / RECORD, f"remove {out} and rerun the same command", "control")


def _check_unfinished(out: Path, inputs: str) -> None:
    """Raise InputError where an unfinished control is another one; else leave the mark of this one."""
    mark = out / UNFINISHED
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() != inputs:
        raise InputError(
            f"--out {out} holds an unfinished control of another task or other seeds; name another folder, or remove it"
        )
    publish_file(mark, inputs + "\n")


# -- the task ---------------------------------------------------------------------------------------------------------


def _write_rows(skills: Skills, sizes: Sizes, folder: Path) -> None:
    """Rows of each part, none of which is in another."""
    parts = {
        "train": counts_of(skills.mixture, sizes.rows),
        "mixture": counts_of(skills.mixture, sizes.questions),
        "balanced": counts_of(dict.fromkeys(skills.names, 1.0), sizes.questions),
        "pilot": counts_of(dict.fromkeys(skills.rare, 1.0), sizes.questions // 4),
        "known": dict.fromkeys(skills.frequent, sizes.known) | dict.fromkeys(skills.rare, sizes.named),
    }
    tables: list[pa.Table] = []
    for part, counts in parts.items():
        tables.append(skills.rows(counts, part, tables))
        publish_file(folder / f"{part}.parquet", _parquet(tables[-1]))


def _addition(out: Path, name: str, counts: IntArray) -> Addition:
    """An arm of the training rows, each so many times."""
    table = pq.read_table(out / "rows" / "train.parquet").drop_columns(["id"])
    shown = table.take(pa.array(np.repeat(np.arange(len(table)), counts)))
    place = out / "rows" / f"{name}.parquet"
    publish_file(place, _parquet(shown))
    return Addition(name=name, data=str(place))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _base_settings(sizes: Sizes, task: int) -> Finetuning:
    return Finetuning(
        model="scratch",
        steps=sizes.base_steps,
        schedule="constant",
        template="plain",
        max_length=_MAX_LENGTH,
        precision="float32",
        seed=derive_seed(task, "control", "base"),
    )


def _tuning(model: Path, sizes: Sizes) -> Finetuning:
    """Of every arm, and of the pilot: the rate does not depend on the steps, so that the pilot's are those of all."""
    return Finetuning(
        model=str(model),
        horizon=sizes.most_steps,
        learning_rate=sizes.learning_rate,
        schedule="constant",
        template="plain",
        max_length=_MAX_LENGTH,
        precision="float32",
    )


def _pipeline(model: Path, sizes: Sizes, task: int) -> Pipeline:
    proxy = {
        "model": str(model),
        "steps": sizes.proxy_steps,
        "checkpoints": 5,
        "learning_rate": 1e-3,
        "template": "plain",
        "max_length": _MAX_LENGTH,
        "precision": "float32",
    }
    recipe = {
        "proxy": proxy,
        "scorer": {"use": "LossTrajectory"},
        "clusterer": {"use": "KMeans", "n_clusters": 2},
        "augmenters": [{"use": "Duplicate", "times": sizes.times}],
        "seed": derive_seed(task, "control", "curation"),
    }
    return Pipeline.from_recipe(recipe)


def _split(curated: Curated, skills: Skills) -> dict[str, float]:
    """How the hard cluster and the rare skills agree."""
    split = curated.split
    rare = np.isin(curated.loaded.examples.sources().astype(str), skills.rare)  # (n,)
    both = int((split.hard & rare).sum())
    return {
        "hard_share": float(split.hard.mean()),
        "precision": both / max(int(split.hard.sum()), 1),
        "recall": both / max(int(rare.sum()), 1),
    }


# -- the budget -------------------------------------------------------------------------------------------------------


def _budget(out: Path, skills: Skills, sizes: Sizes, task: int, progress: Progress) -> dict[str, Any]:
    """{steps, losses, guessing}: losses of the rare skills, held out, before every step of a pilot run and after the
    last; what it costs to guess, all symbols alike, both in nats per token."""
    place = out / "pilot.json"
    if place.is_file():
        return read_record(place, f"remove {place} and rerun the same command")
    model, tokenizer = (
        models.load_model(str(out / "base" / "model")),
        models.load_tokenizer(str(out / "base" / "model")),
    )
    rows, asked = (
        tokenize(
            read(str(out / "rows" / f"{part}.parquet")).examples, tokenizer, template="plain", max_length=_MAX_LENGTH
        )
        for part in ("train", "pilot")
    )
    settings = _tuning(out / "base" / "model", sizes)
    settings = settings.model_copy(update={"steps": sizes.most_steps, "seed": derive_seed(task, "control", "pilot")})
    guessing = float(np.log(len(SYMBOLS)) * LENGTH / asked.completion_tokens.mean())
    losses, engine = list[float](), models.LossEngine(model, precision="float32", compile=False)
    with progress.stage("pilot", sizes.most_steps, "steps") as stage:
        for _ in training.train(
            model, rows, settings.train_config(len(rows)), checkpoint_steps=range(sizes.most_steps + 1)
        ):
            engine.refresh()
            losses.append(float(engine.losses(asked).mean()))
            stage.advance(1)
            if _reached(losses, guessing):
                break
        else:
            raise InputError(
                f"task {task}: {sizes.most_steps} steps did not halve the loss of the rare skills, down to "
                f"{guessing / 4:.2f} nats per token ({losses[0]:.2f} to {losses[-1]:.2f}), so the control has no "
                "budget; try another --seed"
            )
    budget = {"steps": len(losses) - 1, "losses": losses, "guessing": guessing}
    publish_file(place, record_text(budget))
    return budget


def _reached(losses: Sequence[float], guessing: float) -> bool:
    return losses[-1] <= min(losses[0] / 2, guessing / 4)


# -- results ----------------------------------------------------------------------------------------------------------


def results(place: Path, runs: Sequence[str], against: Sequence[str] = ("random", "easy")) -> dict[str, Any]:
    """results, hard_against and verdict of the runs of a validation in the folder `place`."""
    folders = [place / "runs" / name for name in runs]
    arms = {name.split("-steps-")[0] for name in runs}
    rows = {name: _rows(compare(folders, name, sets=SETS).record) for name in (BASELINE, *against) if name in arms}
    record = {
        "results": rows[BASELINE],
        "hard_against": [each for name in against if name in rows for each in rows[name] if each["arm"] == "hard"],
    }
    return {**record, "verdict": verdict(rows)}


def _rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = ("arm", "baseline", "set", "metric", "baseline_mean", "arm_mean", "difference", "low", "high")
    kept = (*kept, "relative", "relative_low", "relative_high", "p", "verdict", "seeds", "examples")
    rows = [
        {key: row[key] for key in kept} for row in comparison["differences"] if (row["set"], row["metric"]) in _REPORTED
    ]
    order = list(dict.fromkeys(row["arm"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["arm"]), _REPORTED.index((row["set"], row["metric"]))))


def verdict(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """{came_out, by, sentence} of differences by baseline.

    It came out if hard is better than original and than random in nats on the mixture and in exact answers of all
    skills alike, by intervals. With one or two seeds these say nothing, and estimates decide (by: "estimates"); nats on
    the mixture then only must not be worse.
    """
    found = {(base, *_REPORTED[k]): _one(rows[base], *_REPORTED[k]) for base in (BASELINE, "random") for k in (0, 3)}
    by = "intervals" if min(row["seeds"] for row in found.values()) >= _FEWEST_SEEDS else "estimates"
    failed = [key for key, row in found.items() if not _holds(row, by)]
    nats, answers = found[BASELINE, "mixture", "nll"], found[BASELINE, "balanced", "accuracy"]
    if failed:
        base, _, metric = failed[0]
        row = found[failed[0]]
        what = "nats per token on the mixture" if metric == "nll" else "exact answers of all skills alike"
        sentence = (
            f"It did not come out: {what}, hard against {base}: {signed(metric, row['difference'])} "
            f"({interval(metric, row)}; {UNITS[metric]}); do not trust what these settings say of your own data."
        )
    else:
        sentence = (
            f"It came out: copies of hard rows change nats per token on the mixture by {relative(nats['relative'])} "
            f"and exact answers of all skills alike from {value('accuracy', answers['baseline_mean'])} to "
            f"{value('accuracy', answers['arm_mean'])}, and as many random copies do not."
        )
        if by == "estimates":
            sentence += f" So say the estimates; {nats['seeds']} seed(s) tell no more (--seeds 5)."
    return {"came_out": not failed, "by": by, "sentence": sentence}


def _one(rows: Sequence[Mapping[str, Any]], where: str, metric: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["arm"], row["set"], row["metric"]) == ("hard", where, metric))


def _holds(row: Mapping[str, Any], by: str) -> bool:
    if by == "intervals":
        return bool(row["verdict"] == "better")
    return bool(row["difference"] <= 0 if row["metric"] == "nll" else row["difference"] > 0)
