"""Dialogues that are one text are the messages that they name, and come out as the text that they were."""

from __future__ import annotations

from pathlib import Path

import pytest

import curate
from curate.clusterers import KMeans
from curate.data.chat_texts import messages_of
from curate.pipeline import Pipeline
from scorers import Length

CALL = """<functioncall> {"name": "add", "arguments": '{"a": 1, "b": "it\\'s"}'} <|endoftext|>"""
GLAIVE = (
    f"USER: What is 1 + 1?\nHuman: not a turn\n\n\nASSISTANT: {CALL}\n\n\nFUNCTION RESPONSE: "
    '{"sum": 2}\n\n\nASSISTANT: It is 2. <|endoftext|>\n\n\n'
)


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
