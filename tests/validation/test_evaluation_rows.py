"""Rows that are held out are never trained on, nor is anything near to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.readers import read
from curate.errors import InputError
from curate.evaluation.config import EvaluationSet
from curate.evaluation.sets import read_set
from curate.run import Run
from curate.validation.evaluation_rows import HELD_OUT, prepare
from tests.fixtures.validation import loaded, pipeline, rows, settings

# -- what is evaluated ----------------------------------------------------------------------------------------------


def held(out: Path, table: pa.Table | None = None, **fields: Any) -> tuple[Any, list[str]]:
    found = prepare(
        read(rows() if table is None else table), settings(held_out=0.3, **fields), out, Run(cache=out).progress
    )
    return found, pq.read_table(out / HELD_OUT / "rows.parquet")["prompt"].to_pylist()


def test_rows_held_out_are_not_trained_on_and_the_same_every_time(tmp_path: Path) -> None:
    found, questions = held(tmp_path / "a")
    trained = found.loaded.examples.table["prompt"].to_pylist()
    assert len(questions) == 30
    assert sorted([*trained, *questions]) == sorted(rows()["prompt"].to_pylist())
    assert held(tmp_path / "b")[1] == questions
    assert held(tmp_path / "c", pipeline=pipeline(seed=1))[1] != questions
    assert [each.title for each in found.sets] == [HELD_OUT]
    assert [each["reason"] for each in found.loaded.rejected] == ["held out for evaluation"] * 30


@pytest.mark.parametrize("shape", ["texts", "conversations", "labels"])
def test_of_pairs_and_labeled_completions_whole_rows_are_held_out(shape: str, tmp_path: Path) -> None:
    def row(prompt: str, completion: str) -> dict[str, Any]:
        if shape == "labels":
            return {"prompt": prompt, "completion": completion, "label": True}
        if shape == "texts":
            return {"prompt": prompt, "chosen": completion, "rejected": "no"}
        said = ([{"role": "user", "content": prompt}, {"role": "assistant", "content": a}] for a in (completion, "no"))
        return dict(zip(("chosen", "rejected"), said, strict=True))

    made = [row(each["prompt"], each["completion"]) for each in rows().to_pylist()]
    table = pa.Table.from_pylist(made)
    found = prepare(read(table), settings(held_out=0.3), tmp_path, Run(cache=tmp_path).progress)
    kept = found.loaded.examples
    assert kept.paired is (shape != "labels")
    asked = pq.read_table(tmp_path / HELD_OUT / "rows.parquet").select(table.column_names).to_pylist()
    trained = kept.table.select(table.column_names).to_pylist()
    assert len(asked) == 30
    assert sorted([*map(str, asked), *map(str, trained)]) == sorted(map(str, made))
    (held_out,) = found.sets
    questions = read_set(held_out)
    whole = dict(zip(rows()["prompt"].to_pylist(), rows()["completion"].to_pylist(), strict=True))
    assert [whole[text] for text in questions.texts] == questions.completions


def test_more_than_the_share_is_held_out_where_that_is_too_few(tmp_path: Path) -> None:
    found = prepare(read(rows(100)), settings(), tmp_path / "a", Run(cache=tmp_path).progress)
    assert found.facts["held_out"]["rows"] == 20
    assert "20 of 100 rows are held out, more than the share of 0.1" in found.warnings[0]
    assert len(found.loaded.examples) == 80
    enough = prepare(read(rows(200)), settings(), tmp_path / "b", Run(cache=tmp_path).progress)
    assert enough.facts["held_out"]["rows"] == 20
    assert not any("share of" in line for line in enough.warnings)
    with pytest.raises(
        InputError, match=r"18 of 60 rows can be held out, too few .* --evaluation or hold out more with --held-out$"
    ):
        prepare(read(rows(60)), settings(), tmp_path / "c", Run(cache=tmp_path).progress)


def test_what_is_near_to_a_row_that_stays_is_not_asked(tmp_path: Path) -> None:
    once = rows(100).to_pylist()
    twice = pa.Table.from_pylist([*once, *({**row, "prompt": row["prompt"] + " xyz"} for row in once[:40])])
    found, questions = held(tmp_path, twice)
    trained = found.loaded.examples.table["prompt"].to_pylist()
    stems = {text.removesuffix(" xyz") for text in trained}
    assert not any(text.removesuffix(" xyz") in stems for text in questions)
    assert found.facts["held_out"]["near_to_others"] > 0
    pairs = pa.Table.from_pylist([*once[:30], *({**row, "prompt": row["prompt"] + " xyz"} for row in once[:30])])
    with pytest.raises(InputError, match=r"drawn are near to rows .* or allow near-duplicates with --set"):
        held(tmp_path / "pairs", pairs)
    same = pa.Table.from_pylist(once[:25] * 4)
    with pytest.raises(InputError, match=r"too few .* or hold out more with --held-out$"):
        held(tmp_path / "same", same, pipeline=pipeline(gate={"near_duplicate": None}))


def test_without_final_answers_only_losses_are_compared(tmp_path: Path) -> None:
    plain = rows().set_column(
        1, "completion", pa.array([f"it is said that {k} of us came, more or less" for k in range(100)])
    )
    found, _ = held(tmp_path / "a", plain)
    assert not found.evaluation.generate
    assert "no final answer" in found.warnings[0]
    answered = rows().append_column("final_answer", pa.array([str(k) for k in range(100)]))
    assert held(tmp_path / "b", answered)[0].evaluation.generate
    texts = pa.table({"text": rows()["prompt"], "known": rows()["known"]})
    with pytest.raises(InputError, match="--evaluation"):
        held(tmp_path / "c", texts)


def test_rows_that_share_text_with_an_evaluation_set_are_counted_and_dropped_if_asked(tmp_path: Path) -> None:
    pq.write_table(rows().slice(0, 7), tmp_path / "test.parquet")
    sets = (EvaluationSet(data=str(tmp_path / "test.parquet")),)
    progress = Run(cache=tmp_path).progress
    found = prepare(loaded(), settings(sets=sets), tmp_path / "a", progress)
    assert found.facts["contaminated"]["test"]["rows"] == 7
    assert len(found.loaded.examples) == 100
    assert "7 of 100 rows share text with evaluation set test" in found.warnings[0]
    assert "--drop-contaminated" in found.warnings[0]
    clean = prepare(loaded(), settings(sets=sets, drop_contaminated=True), tmp_path / "b", progress)
    assert clean.loaded.examples.table["prompt"].to_pylist() == rows()["prompt"].to_pylist()[7:]
    with pytest.raises(InputError, match="does not exist"):
        prepare(loaded(), settings(sets=(EvaluationSet(data="gone.parquet"),)), tmp_path / "c", progress)
