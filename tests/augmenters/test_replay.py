"""Replay: rows of another dataset fill a share of the result."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from augmenters import Duplicate, Replay
from curate.checks import (
    small_examples,
    small_split,
)
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.mixture.plan import Realized, fold, realize
from curate.run import Run
from tests.fixtures.chats import ODD, write_odd_chats


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


# -- the other dataset of Replay ------------------------------------------------------------------------------------


def _pairs(n: int = 60, **columns: list[object]) -> pa.Table:
    return pa.table({"prompt": [f"p{i}" for i in range(n)], "completion": [f"c{i}" for i in range(n)], **columns})


def _replayed(examples: Examples, replay: Replay) -> Realized:
    (realized,) = realize(fold([replay], small_split(len(examples)), 0), examples, Run())
    return realized


def test_replay_reads_as_the_input_is_read(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [{"prompt": f"{name} {i}", "completion": None if i == 3 else f"c{i}"} for i in range(20)]
        (tmp_path / f"{name}-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = small_examples(24)
    realized = _replayed(examples, Replay(data=str(tmp_path), share=0.2, split="test", on_bad_row="drop"))
    assert all(text.startswith("test ") for text in realized.rows.table["prompt"].to_pylist())
    ((row, stage),) = [(record["row"], record["stage"]) for record in realized.rejected]
    assert (row, stage) == (3, "replay")


@pytest.mark.parametrize(
    ("replay", "says"),
    [
        (Replay(data="no/such.jsonl", share=0.2), "no/such.jsonl: .*does not exist"),
        (Replay(data=pa.table({"a": ["b"]}), share=0.2), "Table: .*match no known shape.*Replay.columns"),
        (Replay(data=pa.table({"text": ["b"]}), share=0.2), "Table: it has shape text .*Replay.columns"),
        (Replay(data=_pairs(3).append_column("x", pa.array([1, 2, 3])), share=0.2, where="x=7"), "Replay.where x=7"),
        (
            Replay(data=pa.table({"prompt": ["a", "b"], "completion": ["c", None]}), share=0.2),
            "Table: row 1 .*Replay.on_bad_row drop",
        ),
        (Replay(data=_pairs(3), share=0.2, config="main"), "Table: config=main"),
    ],
    ids=["path", "columns", "shape", "where", "null", "config"],
)
def test_replay_data_that_cannot_serve_is_named_before_anything_is_scored(replay: Replay, says: str) -> None:
    for serve in (lambda: replay.check_examples(small_examples(24)), lambda: _replayed(small_examples(24), replay)):
        with pytest.raises(InputError, match="Replay data .*" + says) as caught:
            serve()
        assert not re.search(r"--(columns|where|on-bad-row)", str(caught.value))


def test_replay_into_a_column_that_is_never_null_is_refused() -> None:
    level = pa.field("level", pa.int32(), nullable=False)
    examples = read(_pairs(24).append_column(level, pa.array(range(24), pa.int32()))).examples
    replay = Replay(data=_pairs(), share=0.2)
    with pytest.raises(InputError, match="'level', which is declared as never null"):
        replay.check_examples(examples)
    # A column that the other dataset has a value for may stay as it is.
    strict = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("completion", pa.string())])
    replay.check_examples(read(_pairs(24).cast(strict)).examples)


def test_replay_fills_the_column_that_is_trained_on() -> None:
    """Also where the input's completion is its final answer, which the other dataset has none of."""
    table = _pairs(24).rename_columns(["prompt", "final_answer"])
    examples = read(table, columns="prompt=prompt,completion=final_answer").examples
    rows = _replayed(examples, Replay(data=_pairs(), share=0.2)).rows.table
    assert [text[0] for text in rows["final_answer"].to_pylist()] == ["c"] * rows.num_rows


def test_replay_is_read_by_every_option_of_reading(tmp_path: Path) -> None:
    path = write_odd_chats(tmp_path, [f"Où {k} ?" for k in range(9)])
    talk = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "here"}]
    examples = read(pa.table({"messages": [talk] * 4})).examples
    for replay in (Replay(data=path, share=0.2, **ODD), Replay(data=path, share=0.2, limit=3, **ODD)):
        loaded = replay._read(examples)
        assert len(loaded.examples) == (replay.limit or 9)
        turns = loaded.examples.conversations(0, 1)[0]
        assert [turn["role"] for turn in turns] == ["user", "assistant"]
        assert turns[1]["content"].startswith("Gémeaux")
    with pytest.raises(InputError, match=r"Replay.encoding cp1252"):
        Replay(data=path, share=0.2)._read(examples)
