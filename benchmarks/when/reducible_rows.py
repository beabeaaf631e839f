"""The rule of reducible rows, on the proxies of a task, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.when.family import Task
from curate import Split
from curate.difficulty.halves import make_halves
from curate.difficulty.reducible import Gains, gains
from curate.difficulty.reducible import reducible_rows as by_gains
from curate.errors import InputError
from curate.proxy.held_out import LONGEST, grid, like_rows
from curate.seeds import derive_seed


def reducible_rows(task: Task, split: Split, seed: int) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """(n,) which rows are reducible, and what the rule says of itself."""
    if split.tokens is None:
        raise InputError("the rule of reducible rows needs the lengths of completions; give scores with tokens")
    found = by_gains(held_out_gains(task, split.tokens, seed), split.hard, seed=seed)
    return found.reducible, found.to_json()


def held_out_gains(task: Task, lengths: npt.NDArray[Any], seed: int) -> Gains:
    """Gains of the task's n rows and of null rows. lengths: (n,) completion tokens."""
    rows = task.rows
    ids, answers = rows["id"].to_pylist(), rows["answer"].to_pylist()
    texts = [f"{question}\n{answer}" for question, answer in zip(rows["question"].to_pylist(), answers, strict=True)]
    groups, _ = like_rows(texts, ids)
    halves = make_halves(ids, lengths, answers, sources=rows["source"].to_pylist(), groups=groups)
    null = rows.take(pa.array(halves.null))
    swapped = rows["answer"].take(pa.array(halves.donor))
    null = null.set_column(null.column_names.index("answer"), "answer", swapped)
    null = null.set_column(
        null.column_names.index("id"), "id", pa.array([f"null-{each}" for each in null["id"].to_pylist()])
    )
    at = grid(task.proxy_steps, round(LONGEST * task.proxy_steps)).tolist()
    losses = np.full((len(rows), len(at)), np.nan, np.float32)
    null_losses = np.full((len(null), len(at)), np.nan, np.float32)
    for half in (0, 1):
        own, nulls = halves.measured_by(half)
        measured = pa.concat_tables([rows.take(pa.array(own)), null.take(pa.array(nulls))])
        train = rows.take(pa.array(halves.trained_on(half)))
        found = task.proxy_losses(train, measured, at, derive_seed(seed, "when", "half", half))
        losses[own], null_losses[nulls] = found[: len(own)], found[len(own) :]
    return gains(losses, null_losses, halves)
