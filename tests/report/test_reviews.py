"""Verdicts on new problems: the journal survives interruptions, and rows are written with what was said of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import InputError
from curate.report.reviews import Journal, kept_problems, reviewed_rows, write_rows


@pytest.fixture
def directory(made: Path) -> Iterator[Path]:
    yield made
    (made / "reviews.jsonl").unlink(missing_ok=True)


def test_verdicts_are_there_again_and_the_last_one_counts(directory: Path) -> None:
    problems = kept_problems(directory)
    assert len(problems) > 3
    journal = Journal(directory, problems)
    assert journal.undo() is None
    journal.add(problems[0], "accepted")
    journal.add(problems[1], "rejected")
    journal.add(problems[0], "rejected")
    again = Journal(directory, problems)
    assert {each: review.said for each, review in again.verdicts.items()} == {
        problems[1].example_id: "rejected",
        problems[0].example_id: "rejected",
    }
    assert again.undo() == problems[0].example_id
    assert set(Journal(directory, problems).verdicts) == {problems[1].example_id}


def test_a_line_that_was_cut_off_costs_no_other(directory: Path) -> None:
    problems = kept_problems(directory)
    Journal(directory, problems).add(problems[0], "accepted")
    with (directory / "reviews.jsonl").open("a") as file:
        file.write('{"example_id": "' + problems[1].example_id[:3])
    journal = Journal(directory, problems)
    assert set(journal.verdicts) == {problems[0].example_id}
    journal.add(problems[2], "rejected")
    assert set(Journal(directory, problems).verdicts) == {problems[0].example_id, problems[2].example_id}
    (directory / "reviews.jsonl").write_text("not ours\nat all\n")
    with pytest.raises(InputError, match=r"line 1; move it away"):
        Journal(directory, problems)


@pytest.mark.parametrize("line", [{"said": "praised"}, {"example_id": ["a"]}, {"solution": 3}, {"digest": None}])
def test_a_line_that_no_journal_of_ours_has_is_refused(directory: Path, line: dict[str, object]) -> None:
    problems = kept_problems(directory)
    Journal(directory, problems).add(problems[0], "edited", problem="2 + 2?", solution="4")
    whole = json.loads((directory / "reviews.jsonl").read_text())
    (directory / "reviews.jsonl").write_text("\n" + json.dumps({**whole, **line}) + "\n")
    with pytest.raises(InputError, match=r"line 2; move it away"):
        Journal(directory, problems)
    (directory / "reviews.jsonl").unlink()
    os.mkfifo(directory / "reviews.jsonl")
    with pytest.raises(InputError, match=r"not a file; move it away"):
        Journal(directory, problems)


def test_a_verdict_on_other_texts_does_not_count(directory: Path) -> None:
    problems = kept_problems(directory)
    Journal(directory, problems).add(problems[0], "accepted")
    line = json.loads((directory / "reviews.jsonl").read_text())
    (directory / "reviews.jsonl").write_text(json.dumps({**line, "digest": "0" * 16}) + "\n")
    assert Journal(directory, problems).verdicts == {}


def test_rows_carry_their_verdicts_and_edits_stand_in_place(directory: Path, tmp_path: Path) -> None:
    problems = kept_problems(directory)
    journal = Journal(directory, problems)
    journal.add(problems[0], "accepted")
    journal.add(problems[1], "rejected")
    journal.add(problems[2], "edited", problem="How many is that?", solution="It is \\boxed{1}.")
    every = reviewed_rows(directory, journal, only_accepted=False)
    accepted = reviewed_rows(directory, journal, only_accepted=True)
    said = dict(zip(every["example_id"].to_pylist(), every["review"].to_pylist(), strict=True))
    assert [said[each.example_id] for each in problems[:4]] == ["accepted", "rejected", "edited", None]
    new = {each.example_id for each in problems}
    kept = [each for each in accepted["example_id"].to_pylist() if each in new]
    assert sorted(kept) == sorted(each.example_id for each in (problems[0], problems[2]))
    originals = [each for each in every["example_id"].to_pylist() if each not in new]
    assert [each for each in accepted["example_id"].to_pylist() if each not in new] == originals
    row = next(each for each in accepted.to_pylist() if each["example_id"] == problems[2].example_id)
    assert "How many is that?" in row.values()
    assert "It is \\boxed{1}." in row.values()
    write_rows(accepted, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").equals(accepted)


def test_messages_are_edited_inside(directory: Path) -> None:
    from curate.report.reviews import Review, _with_texts

    problem = kept_problems(directory)[0]
    turns = [{"role": "user", "content": problem.problem}, {"role": "assistant", "content": problem.solution}]
    table = pa.table({"messages": [[{"role": "user", "content": "other"}], turns]})
    review = Review(problem.example_id, problem.digest, "edited", "new?", problem.solution)
    changed = _with_texts(table, 1, problem, review)["messages"].to_pylist()
    assert changed[0][0]["content"] == "other"
    assert [turn["content"] for turn in changed[1]] == ["new?", problem.solution]
    turns[1]["content"] = ""  # as where the solution is calls in a field
    with pytest.raises(InputError, match="an edited text cannot take the place"):
        _with_texts(pa.table({"messages": [turns]}), 0, problem, replace(review, solution="other"))


def test_a_folder_without_new_problems_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        kept_problems(tmp_path)
