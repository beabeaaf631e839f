"""The rule of reducible rows (`curate.difficulty.reducible`), on the proxies of a task, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.when.family import Task
from curate import Split
from curate.difficulty.halves import Halves, make_halves, tied_groups
from curate.difficulty.reducible import Gains, gains
from curate.difficulty.reducible import reducible_rows as by_gains
from curate.proxy.held_out import LONGEST, grid
from curate.seeds import derive_seed
from curate.types import BoolArray, IntArray


def reducible_rows(task: Task, split: Split, seed: int) -> tuple[BoolArray, dict[str, Any]]:
    """(n,) which rows are reducible, and what the rule says of itself.

    As `curate.proxy.held_out.measure_halves`, but for near-duplicates: only equal rows are kept in one half, since most
    rows of generated tasks are alike.
    """
    rows = task.rows
    answers = rows["answer"].to_pylist()
    groups, _ = tied_groups(len(rows), [list(zip(rows["question"].to_pylist(), answers, strict=True))])
    lengths = np.array([len(answer) for answer in answers])
    answer = by_gains(task_gains(task, lengths, groups, seed), split.hard, seed=seed)
    return answer.reducible, answer.to_json()


def task_gains(task: Task, lengths: npt.NDArray[Any], groups: IntArray, seed: int) -> Gains:
    """Gains of the task's n rows and of its null rows.

    lengths: (n,) of the completions, in any unit. groups: (n,), rows of one are kept in one half.
    """
    rows = task.rows
    answers = rows["answer"].to_pylist()
    halves = make_halves(rows["id"].to_pylist(), lengths, answers, sources=rows["source"].to_pylist(), groups=groups)
    null = null_rows(rows, halves)
    at = grid(task.proxy_steps, round(task.proxy_steps * LONGEST)).tolist()
    losses = np.full((len(rows), len(at)), np.nan, np.float32)
    wrong = np.full((len(null), len(at)), np.nan, np.float32)
    for half in (0, 1):
        measured, nulls = halves.measured_by(half)
        measured_table = pa.concat_tables([rows.take(pa.array(measured)), null.take(pa.array(nulls))])
        train = rows.take(pa.array(halves.trained_on(half)))
        half_losses = task.proxy_losses(train, measured_table, at, derive_seed(seed, "when", "half", half))  # (m, K)
        losses[measured], wrong[nulls] = half_losses[: len(measured)], half_losses[len(measured) :]
    return gains(losses, wrong, halves, at.index(task.proxy_steps))


def null_rows(rows: pa.Table, halves: Halves) -> pa.Table:
    """The null rows: each with the completion of its donor."""
    null, completions = rows.take(pa.array(halves.null)), rows["answer"].take(pa.array(halves.donor))
    null = null.set_column(null.column_names.index("answer"), "answer", completions)
    return null.set_column(0, "id", pa.array([f"{each} null" for each in null["id"].to_pylist()], pa.string()))
