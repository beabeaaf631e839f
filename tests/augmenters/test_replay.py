"""Replay: rows of another dataset fill a share of the result."""

import pyarrow as pa
import pytest

from augmenters import Duplicate, Replay
from curate.checks import small_examples, small_split
from curate.errors import InputError
from curate.mixture.plan import fold, realize, share_counts
from curate.run import Run


def test_share_is_of_the_final_rows() -> None:
    replay = [Replay(data="x", share=0.2), Replay(data="y", share=0.3)]
    plan = fold(replay, small_split(24), 0)
    counts = [request.count for request in share_counts(plan, made=26)]
    others = 24 + 26
    assert counts == [20, 30]
    assert counts[0] / (others + sum(counts)) == pytest.approx(0.2)
    with pytest.raises(InputError, match="add up to"):
        share_counts(fold([Replay(data="x", share=0.6), Replay(data="y", share=0.4)], small_split(24), 0), 0)


def test_replay_fills_its_share_after_copies_and_keeps_the_inputs_columns() -> None:
    examples = small_examples(24)
    other = pa.table({"question": [f"q{i}" for i in range(50)], "answer": [f"a{i}" for i in range(50)], "x": range(50)})
    augmenters = [Replay(data=other, share=0.25, shape="question_answer"), Duplicate(times=1)]
    with pytest.raises(InputError, match="shape question_answer"):
        realize(fold(augmenters, small_split(24), 0), examples, Run())
    same = other.rename_columns(["prompt", "completion", "x"])
    plan = fold([Replay(data=same, share=0.25), Duplicate(times=1)], small_split(24), 0)
    (realized,) = realize(plan, examples, Run())
    others = int(plan.counts.sum())
    assert len(realized.rows.ids) / (others + len(realized.rows.ids)) == pytest.approx(0.25, abs=0.01)
    assert realized.rows.table.schema.equals(examples.table.schema)
    assert realized.rows.table.column("source").null_count == len(realized.rows.ids)
    assert len(set(realized.rows.ids)) == len(realized.rows.ids)


def test_replay_that_cannot_fill_its_share_is_refused() -> None:
    tiny = pa.table({"prompt": ["p"], "completion": ["c"]})
    with pytest.raises(InputError, match="lower the share"):
        realize(fold([Replay(data=tiny, share=0.5)], small_split(24), 0), small_examples(24), Run())
