"""Columns of conversations as arrays: the same turns whatever their type, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.data.columns import is_messages
from curate.data.json_values import column_of
from curate.data.messages import conversations, is_plain, strings_in, survey, turns, values_of
from curate.data.readers import read
from curate.data.turns import USUAL, MessageKeys
from curate.errors import InputError

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"name": "add", "arguments": {"a": 1}}


def column(*rows: Any) -> pa.ChunkedArray:
    return column_of("messages", list(rows))[0]


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_values_open_json_at_every_depth_and_leave_out_null_members() -> None:
    kind = pa.struct([("a", pa.json_()), ("b", pa.list_(pa.json_())), ("c", pa.string())])
    rows = [{"a": '{"x": null}', "b": ['"t"', "1"], "c": None}, {"a": None, "b": None, "c": "s"}, None]
    plain = pa.struct([("a", pa.string()), ("b", pa.list_(pa.string())), ("c", pa.string())])
    array = pa.array(rows, plain).cast(kind)
    assert values_of(array) == [{"a": {"x": None}, "b": ["t", 1]}, {"c": "s"}, None]
    assert values_of(array[1:]) == [{"c": "s"}, None]
    assert values_of(pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))) == [{"k": 1}]


def test_the_same_turns_whatever_the_type() -> None:
    """Messages as structs, as JSON, and with a null member for every key that others have."""
    plain = pa.chunked_array([pa.array([[USER, ANSWER], [USER, ANSWER, USER]])])
    odd = column([USER, {**ANSWER, "x": 1}], [USER, ANSWER, USER])
    wide = pa.chunked_array(
        [pa.array([[{**USER, "name": None}, {**ANSWER, "tool_calls": None}], [USER, ANSWER, USER]])]
    )
    expected = conversations(plain.chunk(0))
    assert expected[0] == [USER, ANSWER]
    for other in (odd, wide):
        assert is_messages(other.type)
        assert conversations(other.combine_chunks()) == expected
        for mine, theirs in zip(turns(other.combine_chunks()), turns(plain.chunk(0)), strict=True):
            assert list(mine.tolist()) == list(theirs.tolist())


def test_what_is_said_in_a_turn_has_its_calls() -> None:
    rows = [
        [USER, {"role": "assistant", "content": "", "tool_calls": [call]}] for call in (CALL, {**CALL, "name": "b"})
    ]
    _, roles, said = turns(column(*rows).combine_chunks())
    assert roles.to_pylist() == ["user", "assistant"] * 2
    assert said[0] == said[2]
    assert said[1] != said[3]
    assert "add" in said[1].as_py()
    ids = read(pa.table({"messages": column(*rows)})).examples.ids.to_pylist()
    assert ids[0] != ids[1]
    assert not ids[1].endswith("-2")


def test_a_survey_finds_faults_parts_weights_and_roles() -> None:
    image = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "q"}],
    }
    found = survey(
        column(
            [USER, ANSWER],
            [],
            None,
            [USER],
            [{"content": "x"}, ANSWER],
            [image, ANSWER],
            [{"role": "narrator", "content": "n"}, ANSWER],
            [USER, {**ANSWER, "weight": 0.5}],
            [USER, {**ANSWER, "weight": "much"}],
            [{"role": "doctor", "content": "n"}],
        ),
        USUAL,
        answered=True,
    )
    reasons = {row: reason.split(",")[0] for row, reason in found.faults.items()}
    assert reasons == {
        1: "has no messages",
        3: "has no assistant turn",
        4: "has a message without a role",
        7: "has a message whose weight is 0.5; a turn is learned or not: write 1 or 0",
        8: "has a message whose weight is much; a turn is learned or not: write 1 or 0",
        9: "has no assistant turn",
    }
    assert "--role doctor=assistant" in found.faults[9]
    assert found.unseen == {"image_url": 1}
    assert found.unknown == {"narrator": 1, "doctor": 1}
    lines = list(found.notes("messages"))
    assert len(lines) == 2
    assert "image_url in 1 rows" in lines[0]
    assert "--role" in lines[1]
    mapped = survey(column([{"role": "doctor", "content": "n"}]), MessageKeys(roles={"doctor": "assistant"}), True)
    assert not mapped.faults
    assert not mapped.unknown


def test_a_survey_of_plain_messages_finds_the_same() -> None:
    rows = [[USER, ANSWER], [], None, [USER], [{"role": "doctor", "content": "n"}], [USER, {**ANSWER, "content": None}]]
    plain = survey(pa.chunked_array([pa.array(rows)]), USUAL, answered=True)
    odd = survey(column(*rows, [{**USER, "x": 1}, ANSWER]), USUAL, answered=True)
    assert plain.faults == odd.faults
    assert set(plain.faults) == {1, 3, 4, 5}
    assert plain.unknown == odd.unknown == {"doctor": 1}


def test_notes_of_a_survey_are_shown_and_the_columns_stay(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "q"}, {"type": "image", "image": "x.png"}]
    path = written(tmp_path, {"messages": [USER, ANSWER]}, {"messages": [{"role": "user", "content": parts}, ANSWER]})
    loaded = read(path)
    (note,) = (note for note in loaded.notes if "other than text and calls" in note)
    assert "image in 1 rows" in note
    assert "kept" in note
    assert loaded.examples.texts("messages", 0, 2) == [[USER, ANSWER]] * 2
    assert values_of(loaded.examples.table["messages"].combine_chunks())[1][0]["content"] == parts


def test_plain_conversations() -> None:
    said = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    for rows, plain in (
        ([[USER, ANSWER]], True),
        ([said], True),
        ([[USER, {**ANSWER, "role": "bot"}]], False),
        ([[USER, {**ANSWER, "role": "tool"}, ANSWER]], False),
        ([[{**each, "from": "function_call"} for each in said]], False),
        ([[USER, {**ANSWER, "weight": 0}]], False),
    ):
        assert is_plain(pa.chunked_array([pa.array(rows)]), USUAL) == plain


def test_strings_in_values() -> None:
    assert strings_in({"a": ["b", {"c": 1}], "d": None}) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("columns", ["role=who,content=said", {"role": "who", "content": "said"}])
def test_keys_that_are_named(columns: Any) -> None:
    rows = [[{"who": "patient", "said": "q"}, {"who": "doctor", "said": "a"}]]
    table = pa.table({"messages": rows})
    with pytest.raises(InputError, match="role=KEY,content=KEY"):
        read(table)
    with pytest.raises(InputError, match=r"has no assistant turn, but turns of 'patient', 'doctor' \(--role doctor="):
        read(table, columns=columns)
    for role in ({"doctor": "assistant", "patient": "user"}, "doctor=assistant,patient=user", ["doctor=assistant"]):
        loaded = read(table, role=role, columns=columns)
        assert loaded.examples.texts("messages", 0, 1)[0][1] == ANSWER
        assert "role=who" in loaded.notes[0]
        assert "role.doctor=assistant" in loaded.notes[0]
        again = read(table, columns=dict(loaded.examples.columns), shape=loaded.examples.shape)
        assert again.examples.fingerprint() == loaded.examples.fingerprint()
        assert again.examples.labels_fingerprint()
        assert again.examples.table_fingerprint()
