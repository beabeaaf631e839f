"""The rows that new problems start from, and those that cannot serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from augmenters import Duplicate, Synthesize
from curate import InputError, Run, fold, read, realize
from curate.difficulty.scores import Split
from curate.mixture.plan import identity
from tests.fixtures.splits import knowing
from tests.fixtures.synthesis_pipelines import COLUMNS, Writer, all_hard, pipeline, rows

# -- what it starts from --------------------------------------------------------------------------------------------


def small_split(n: int = 10) -> Split:
    loss = np.arange(n, dtype=np.float32)
    hard = loss >= n / 2
    return Split(pa.array([str(k) for k in range(n)]), hard.astype(np.int32), hard, loss, np.ones(n, bool), loss)


def test_rows_that_a_noise_guard_marked_are_not_started_from() -> None:
    split = small_split()
    (own,) = Synthesize(generator=Writer(), noise_guard=0.2).plan(identity(10), split, 0).demands
    assert own.rows.tolist() == [5, 6, 7, 8]
    assert own.suspects == 1
    guarded = Duplicate(noise_guard=0.4).plan(identity(10), split, 0)
    (other,) = Synthesize(generator=Writer(), noise_guard=0).plan(guarded, split, 0).demands
    assert other.rows.tolist() == [5, 6, 7]


def test_only_reducible_rows_are_started_from_and_no_guard_marks_more() -> None:
    split = knowing(small_split(), [0, 1, 6, 8, 9])
    synthesize = Synthesize(generator=Writer(), only="reducible", noise_guard=0.2)
    (own,) = synthesize.plan(identity(10), split, 0).demands
    assert own.rows.tolist() == [6, 8, 9]
    assert (own.suspects, own.irreducible) == (0, 2)
    (control,) = synthesize.model_copy(update={"of": "easy"}).plan(identity(10), split, 0).demands
    assert control.rows.tolist() == [0, 1]
    (unknown,) = synthesize.plan(identity(10), knowing(split, [], "cannot tell"), 0).demands
    assert unknown.rows.tolist() == [5, 6, 7, 8]


def test_controls_start_from_other_rows() -> None:
    split = small_split()
    easy = Synthesize(generator=Writer(), of="easy", noise_guard=0).plan(identity(10), split, 0).demands[0]
    assert easy.rows.tolist() == [0, 1, 2, 3, 4]
    chosen = Synthesize(generator=Writer(), of="random", noise_guard=0).plan(identity(10), split, 0).demands[0]
    assert len(chosen.rows) == 5
    assert set(chosen.rows.tolist()) != {5, 6, 7, 8, 9}
    few = Synthesize(generator=Writer(), rows=2, noise_guard=0).plan(identity(10), split, 0).demands[0]
    assert len(few.rows) == 2


def test_rows_that_cannot_serve_are_counted_by_reason(tmp_path: Path) -> None:
    table = rows().to_pydict()
    table["answer"][0:10] = [f"She has 3 + {k}, but no mark here" for k in range(10)]
    table["final_answer"][0:10] = [None] * 10
    table["final_answer"][10:15] = [None] * 5  # but the solution marks it
    table["final_answer"][20:23] = ["-1"] * 3
    table["answer"][25] = table["final_answer"][25]
    data = read(pa.table(table), columns=COLUMNS).examples
    plan = fold([Synthesize(generator=Writer(), noise_guard=0, variants=1)], all_hard(data))
    (made,) = realize(plan, data, Run(cache=tmp_path))
    assert made.summary.record["rows"] == {
        "chosen": 60,
        "marked by the noise guard": 0,
        "not in the sample": 0,
        "answer without a worked solution": 1,
        "no verifiable answer": 10,
        "solution and final answer disagree": 3,
        "started from": 46,
    }


def test_without_any_verifiable_answer_it_says_so_before_anything_is_trained(tmp_path: Path) -> None:
    table = rows().drop_columns(["final_answer"]).set_column(1, "answer", pa.array(["just words"] * 60))
    data = read(table, columns="prompt=question,completion=answer")
    with pytest.raises(InputError, match="final_answer"):
        pipeline(Synthesize(generator=Writer())).run(data, cache=tmp_path / "c")
    assert not (tmp_path / "c" / "proxies").exists()
