"""Task of the positive control: its rows, the training of its models, and the budget from a pilot seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate import models, training
from curate.console.progress import Progress
from curate.curated import Curated
from curate.data.readers import read
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.pipeline import Pipeline
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.storage.records import read_record, record_text
from curate.tokenization.encoding import tokenize
from curate.word_problems.skills import LENGTH, SYMBOLS, Skills, counts_of

ROWS = "rows"  # folder of the parts, each in NAME.parquet
_MAX_LENGTH = 32


@dataclass(frozen=True)
class Sizes:
    """How large a control is.

    rows: training rows, a share `share` of them from rare skills. questions: per evaluation set.
    known: rows of each frequent skill that the base model is trained on for `base_steps` steps; named: rows of each
        rare one among them, so that its name is not a new word.
    proxy_steps: of the proxy, which starts from the base model. times: extra copies of hard rows.
    learning_rate: of fine-tuning, constant after warm-up. most_steps: maximum of the budget.
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


def write_rows(skills: Skills, sizes: Sizes, folder: Path) -> None:
    """Write the rows of each part; the parts are disjoint."""
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
        publish_file(folder / f"{part}.parquet", parquet(tables[-1]))


def parquet(table: pa.Table) -> bytes:
    """The content of a Parquet file of the table."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def base_settings(sizes: Sizes, task: int) -> Finetuning:
    return Finetuning(
        model="scratch",
        steps=sizes.base_steps,
        schedule="constant",
        template="plain",
        max_length=_MAX_LENGTH,
        precision="float32",
        seed=derive_seed(task, "control", "base"),
    )


def tuning_of(out: Path, sizes: Sizes) -> Finetuning:
    """Settings of all arms and of the pilot: the rate does not depend on the steps, so the pilot's steps carry over."""
    return Finetuning(
        model=str(out / "base" / "model"),
        horizon=sizes.most_steps,
        learning_rate=sizes.learning_rate,
        schedule="constant",
        template="plain",
        max_length=_MAX_LENGTH,
        precision="float32",
    )


def pipeline_of(out: Path, sizes: Sizes, task: int) -> Pipeline:
    proxy = {
        "model": str(out / "base" / "model"),
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


def agreement(curated: Curated, skills: Skills) -> dict[str, float]:
    """Agreement of the hard cluster with the rare skills."""
    split = curated.split
    sources = curated.loaded.examples.sources()
    assert sources is not None  # the rows have a source column
    rare = np.isin(sources.astype(str), skills.rare)  # (n,)
    both = int((split.hard & rare).sum())
    return {
        "hard_share": float(split.hard.mean()),
        "precision": both / max(int(split.hard.sum()), 1),
        "recall": both / max(int(rare.sum()), 1),
    }


def found_budget(out: Path, sizes: Sizes, task: int, progress: Progress) -> dict[str, Any]:
    """{steps, losses, guessing}: losses of the rare skills on held-out questions before every step of a pilot run and
    after the last; the loss of guessing uniformly among the symbols, both in nats per token."""
    place = out / "pilot.json"
    if place.is_file():
        return read_record(place, f"remove {place} and rerun the same command")
    model, tokenizer = (
        models.load_model(str(out / "base" / "model")),
        models.load_tokenizer(str(out / "base" / "model")),
    )
    rows, evaluation_rows = (
        tokenize(
            read(str(out / ROWS / f"{part}.parquet")).examples, tokenizer, template="plain", max_length=_MAX_LENGTH
        )
        for part in ("train", "pilot")
    )
    settings = tuning_of(out, sizes)
    settings = settings.model_copy(update={"steps": sizes.most_steps, "seed": derive_seed(task, "control", "pilot")})
    guessing = float(np.log(len(SYMBOLS)) * LENGTH / evaluation_rows.completion_tokens.mean())
    losses, engine = list[float](), models.LossEngine(model, precision="float32", compile=False)
    with progress.stage("pilot", sizes.most_steps, "steps") as stage:
        for _ in training.train(
            model, rows, settings.train_config(len(rows)), checkpoint_steps=range(sizes.most_steps + 1)
        ):
            engine.refresh()
            losses.append(float(engine.losses(evaluation_rows).mean()))
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
