"""Conversations of bare texts: lists of texts in turn (LIMA), and a list of messages with an answer of text."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import Pipeline
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import InputError
from scorers import Length

LIMA = [
    {"conversations": ["hi", "hello", "how are you", "fine"], "source": "a"},
    {"conversations": ["what", "that"], "source": "b"},
    {"conversations": ["who", "me", "really"], "source": "b"},
]
ASKED = [[{"role": "user", "content": f"{k}?"}] for k in range(4)]


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
