"""Conversations of bare texts: lists of texts in turn (LIMA), and a list of messages with an answer of text."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.clusterers import KMeans
from curate.data.plain_turns import messages_of
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from scorers import Length

LIMA = [
    {"conversations": ["hi", "hello", "how are you", "fine"], "source": "a"},
    {"conversations": ["what", "that"], "source": "b"},
    {"conversations": ["who", "me", "really"], "source": "b"},
]
ASKED = [[{"role": "user", "content": f"{k}?"}] for k in range(4)]
CALL = """<functioncall> {"name": "add", "arguments": '{"a": 1, "b": "it\\'s"}'} <|endoftext|>"""
GLAIVE = (
    f"USER: What is 1 + 1?\nHuman: not a turn\n\n\nASSISTANT: {CALL}\n\n\nFUNCTION RESPONSE: "
    '{"sum": 2}\n\n\nASSISTANT: It is 2. <|endoftext|>\n\n\n'
)


def test_texts_in_turn_are_the_users_and_the_assistants() -> None:
    loaded = read(LIMA)
    said = loaded.examples.texts("messages", 0, 3)
    assert [[(turn["role"], turn["content"]) for turn in turns] for turns in said][2] == [
        ("user", "who"),
        ("assistant", "me"),
        ("user", "really"),
    ]
    line = "column 'conversations' holds texts in turn: read as user, assistant, user, assistant, ..."
    assert line in loaded.notes
    same = read([{"messages": turns} for turns in said])
    assert same.examples.texts("messages", 0, 3) == said


def test_the_columns_are_written_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "lima.jsonl").write_text("\n".join(map(json.dumps, LIMA)))
    pairs = pa.table({"prompt": ASKED, "response": [f"x{k}" * (k + 1) for k in range(4)]})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[])
    for name, rows in (("lima.jsonl", LIMA), ("pairs.parquet", pairs.to_pylist())):
        pipeline.run(tmp_path / name, out=tmp_path / f"out-{name}")
        written = pq.read_table(tmp_path / f"out-{name}" / "data").to_pylist()
        kept = [{key: row[key] for key in rows[0]} for row in written]
        assert sorted(kept, key=str) == sorted(rows, key=str)


@pytest.mark.parametrize("name", ["completion", "response", "reply"])
def test_an_answer_of_text_to_messages_is_the_completion(name: str) -> None:
    rows = [{"prompt": asked, name: f"a{k}"} for k, asked in enumerate(ASKED)]
    loaded = read(rows)
    assert loaded.examples.columns == {"prompt": "prompt", "completion": name}
    messages = read(
        [{"prompt": asked, name: [{"role": "assistant", "content": f"a{k}"}]} for k, asked in enumerate(ASKED)]
    )
    assert loaded.examples.texts("completion", 0, 4) == messages.examples.texts("completion", 0, 4)
    named = read([{"asked": asked, "said": "a"} for asked in ASKED], columns="prompt=asked,completion=said")
    assert named.examples.shape == "messages"


def test_what_has_no_answer_is_a_row_at_fault() -> None:
    with pytest.raises(InputError, match=r"row 1 .*has no assistant turn"):
        read([LIMA[0], {"conversations": ["alone"], "source": "b"}])
    with pytest.raises(InputError, match=r"row 1 .*'completion' is null"):
        read([{"prompt": ASKED[0], "completion": "a"}, {"prompt": ASKED[1], "completion": None}])


def test_calls_and_results_in_a_dialogue_are_calls_and_results() -> None:
    loaded = curate.read([{"system": "s", "chat": GLAIVE}, {"system": "", "chat": "USER: q\n\nASSISTANT: a\n\nand b"}])
    assert loaded.notes[0] == "shape messages: messages=chat, system=system"
    first, second = loaded.examples.texts("messages", 0, 2)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "it's"}}}
    assert first == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "What is 1 + 1?\nHuman: not a turn"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"sum": 2}'},
        {"role": "assistant", "content": "It is 2."},
    ]
    assert second == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a\n\nand b"}]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("\n\nHuman: q\n\nAssistant: a", [("user", "q"), ("assistant", "a")]),
        ("Be brief.\n\nUSER: q\n\nASSISTANT:a", [("system", "Be brief."), ("user", "q"), ("assistant", "a")]),
        ("USER: q\n\nASSISTANT: <functioncall> {no}", [("user", "q"), ("assistant", "<functioncall> {no}")]),
        ("no speaker", [("system", "no speaker")]),
    ],
)
def test_turns_of_a_dialogue(text: str, spoken: list[tuple[str, str]]) -> None:
    assert [(turn["role"], turn["content"]) for turn in messages_of(text)] == spoken


def test_texts_come_out_as_they_were_and_other_texts_are_no_dialogues(tmp_path: Path) -> None:
    rows = [{"chat": GLAIVE}, {"chat": "USER: q\n\nASSISTANT: a"}]
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), order="keep")
    assert [row["chat"] for row in pipeline.run(rows, progress=False).dataset] == [row["chat"] for row in rows]
    with pytest.raises(curate.errors.InputError, match="match no known shape"):
        curate.read([*rows, {"chat": "USER: only a question"}])


def test_an_answer_of_text_to_messages_is_the_completion_under_the_names_of_other_pairs() -> None:
    loaded = read([{"input": asked, "output": "a", "system_prompt": "s"} for asked in ASKED])
    assert loaded.examples.shape == "messages"
    assert loaded.examples.columns == {"prompt": "input", "completion": "output", "system": "system_prompt"}
    beside = read([{"prompt": "q", "output": "a", "input": asked} for asked in ASKED])
    assert (beside.examples.shape, beside.examples.columns) == (
        "prompt_completion",
        {"prompt": "prompt", "completion": "output"},
    )
