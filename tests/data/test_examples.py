"""Examples: ids, shapes, fingerprints. Properties first, then the errors."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curate
from curate.data.columns import ROLES, SHAPES, content_roles, parse_columns, recognise
from curate.data.examples import Examples, content_ids, example_ids
from curate.errors import InputError

QA = {"prompt": "question", "completion": "answer"}
PAIRS = [("a", "b"), ("", "ab"), ("ab", ""), ("a", "b"), ("ü", "b\n"), ("a", "b")]


def qa_table(pairs: list[tuple[str, str]] = PAIRS, kind: pa.DataType | None = None) -> pa.Table:
    kind = kind or pa.string()
    return pa.table(
        {"question": pa.array([q for q, _ in pairs]).cast(kind), "answer": pa.array([a for _, a in pairs]).cast(kind)}
    )


def qa_ids(table: pa.Table, columns: dict[str, str] | None = None) -> list[str]:
    return content_ids(table, "question_answer", columns or QA).to_pylist()


def examples_of(table: pa.Table) -> Examples:
    shape, columns = recognise(table.schema)
    return Examples(table, content_ids(table, shape, columns), shape, columns)


def rechunked(table: pa.Table, sizes: list[int]) -> pa.Table:
    parts, low = [], 0
    for size in sizes:
        parts.append(table.slice(low, size).combine_chunks())
        low += size
    return pa.concat_tables([*parts, table.slice(low)])


TURNS = [
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": "t"}, {"role": "assistant", "content": "u"}],
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}],
]


# --- ids -------------------------------------------------------------------------------------------------------


def test_content_ids_number_exact_repeats_in_row_order() -> None:
    ids = qa_ids(qa_table())
    assert re.fullmatch("[0-9a-f]{32}", ids[0])
    assert [ids[3], ids[5]] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(set(ids)) == len(ids)


def test_content_id_is_the_documented_hash() -> None:
    # Pinned independently of the code: ids are promises, they must survive a new version.
    frames = b"".join(len(text).to_bytes(8, "little") + text for text in (b"a", b"b"))
    assert qa_ids(qa_table())[0] == hashlib.blake2b(frames, digest_size=16).hexdigest()


def test_content_ids_ignore_names_order_other_columns_chunks_and_storage() -> None:
    table = qa_table()
    expected = qa_ids(table)
    reordered = table.select(["answer", "question"]).add_column(0, "level", pa.array(range(6)))
    assert qa_ids(reordered) == expected
    renamed = table.rename_columns(["problem", "solution"])
    assert qa_ids(renamed, {"prompt": "problem", "completion": "solution"}) == expected
    assert qa_ids(rechunked(table, [1, 2])) == expected
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        assert qa_ids(qa_table(kind=kind)) == expected
    assert qa_ids(pa.concat_tables([table, table.slice(0, 0)])) == expected


def test_content_ids_do_not_depend_on_other_content() -> None:
    assert qa_ids(qa_table(PAIRS[1:3])) == qa_ids(qa_table())[1:3]


def test_content_ids_follow_rows_under_permutation() -> None:
    rng = np.random.default_rng(0)
    pairs = [(str(number), str(number % 7)) for number in range(200)]
    order = rng.permutation(200)
    ids = qa_ids(qa_table(pairs))
    assert qa_ids(qa_table([pairs[k] for k in order])) == [ids[k] for k in order]


def test_content_ids_of_instructions_tell_null_from_empty_and_ignore_a_missing_input() -> None:
    roles = {"instruction": "instruction", "input": "input", "output": "output"}
    table = pa.table({"instruction": ["i", "i", "i"], "input": [None, "", "x"], "output": ["o", "o", "o"]})
    ids = content_ids(table, "instruction", roles).to_pylist()
    assert len({value[:32] for value in ids}) == 3
    bare = {"instruction": "instruction", "output": "output"}
    assert content_ids(table.slice(0, 1).drop_columns("input"), "instruction", bare).to_pylist() == ids[:1]


def test_content_ids_of_conversations_agree_between_notations() -> None:
    native = pa.table({"messages": TURNS})
    ids = content_ids(native, "messages", {"messages": "messages"}).to_pylist()
    assert ids[2] == f"{ids[0]}-2"
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    shared = [[{"from": names[t["role"]], "value": t["content"], "weight": 1} for t in turns] for turns in TURNS]
    table = pa.table({"conversations": shared})
    assert content_ids(table, "messages", {"messages": "conversations"}).to_pylist() == ids
    split = pa.table({"prompt": [t[:-1] for t in TURNS], "completion": [t[-1:] for t in TURNS]})
    assert content_ids(split, "messages", {"prompt": "prompt", "completion": "completion"}).to_pylist() == ids
    assert content_ids(rechunked(native, [1]), "messages", {"messages": "messages"}).to_pylist() == ids


def test_conversation_boundaries_count() -> None:
    first = [[{"role": "user", "content": "ab"}, {"role": "assistant", "content": ""}]]
    second = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]
    ids = [content_ids(pa.table({"messages": m}), "messages", {"messages": "messages"})[0] for m in (first, second)]
    assert ids[0] != ids[1]


def test_unique_id_column_is_used_also_if_it_holds_numbers() -> None:
    table = qa_table().append_column("id", pa.array([5, 3, 9, 1, 2, 4]))
    ids, note = example_ids(table, "question_answer", {**QA, "id": "id"}, named=False)
    assert ids.to_pylist() == ["5", "3", "9", "1", "2", "4"]
    assert ids.type == pa.string()
    assert note is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [(["u", "v", "w", "x", "v", "u"], "'v' in rows 1 and 4"), (["u", "v", None, "x", "y", "z"], "null in row 2")],
)
def test_unusable_id_column_is_a_note_unless_the_caller_named_it(values: list[str | None], problem: str) -> None:
    table = qa_table().append_column("id", pa.array(values))
    ids, note = example_ids(table, "question_answer", {**QA, "id": "id"}, named=False)
    assert ids.to_pylist() == qa_ids(qa_table())
    assert note is not None
    assert problem in note
    assert "content hashes" in note
    with pytest.raises(InputError, match=f"{problem}.*leave out --columns id=id"):
        example_ids(table, "question_answer", {**QA, "id": "id"}, named=True)


# --- fingerprints ----------------------------------------------------------------------------------------------


def test_fingerprint_depends_on_content_and_order_only() -> None:
    table = qa_table()
    base = examples_of(table).fingerprint()
    assert examples_of(rechunked(table, [2, 1])).fingerprint() == base
    assert examples_of(qa_table(kind=pa.large_string())).fingerprint() == base
    assert examples_of(qa_table(kind=pa.string_view())).fingerprint() == base
    assert examples_of(table.append_column("level", pa.array(range(6)))).fingerprint() == base
    ids = examples_of(table).ids
    changed = [qa_table([("a", "b"), ("a", "b")]), qa_table([("ab", ""), ("", "ab")]), table.slice(0, 5)]
    for other in [*changed, table.take(pa.array([1, 0, 2, 3, 4, 5]))]:
        assert examples_of(other).fingerprint() != base
    moved = Examples(qa_table([("", "ab"), *PAIRS[1:]]), ids, "question_answer", QA)
    assert moved.fingerprint() != base
    other_ids = Examples(table, pa.array([str(k) for k in range(6)]), "question_answer", QA)
    assert other_ids.fingerprint() != base


EVERY_TYPE = {
    "text": pa.array(["a", None, "ccc", ""]),
    "large": pa.array([b"a", None, b"cc", b""], pa.large_binary()),
    "view": pa.array(["a" * 30, None, "b", ""], pa.string_view()),
    "category": pa.array(["x", "y", None, "x"]).dictionary_encode(),
    "number": pa.array([1, None, 3, 4], pa.int16()),
    "real": pa.array([0.5, None, float("nan"), -0.0]),
    "flag": pa.array([True, None, False, True]),
    "time": pa.array([1, None, 3, 4], pa.timestamp("ms", "UTC")),
    "turns": pa.array([TURNS[0], None, [], TURNS[1]]),
    "vector": pa.array([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.int8(), 2)),
    "map": pa.array([[("k", 1)], None, [], [("l", None)]], pa.map_(pa.string(), pa.int8())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": None}]),
    "nothing": pa.nulls(4),
}


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_table_fingerprint_sees_every_value_of_every_type_but_no_chunks(name: str) -> None:
    array = EVERY_TYPE[name]
    table = pa.table({"text": ["p", "q", "r", "s"], "extra": array})
    examples = Examples(table, pa.array(list("1234")), "text", {"text": "text"})
    base = examples.table_fingerprint()
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    assert Examples(cut, examples.ids, "text", {"text": "text"}).table_fingerprint() == base
    if name == "nothing":
        return
    seen = {base}
    for order in ([1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]):
        other = table.set_column(
            1, "extra", array.cast(pa.string()).take(order) if name == "view" else array.take(order)
        )
        seen.add(Examples(other, examples.ids, "text", {"text": "text"}).table_fingerprint())
    assert len(seen) == 4


def test_table_fingerprint_counts_names_types_and_roles() -> None:
    table = qa_table().append_column("level", pa.array([1] * 6))
    roles = {**QA, "source": "level"}
    variants = [
        Examples(table, examples_of(table).ids, "question_answer", QA),
        Examples(table, examples_of(table).ids, "question_answer", roles),
        Examples(table.rename_columns(["question", "answer", "x"]), examples_of(table).ids, "question_answer", QA),
        Examples(
            table.set_column(2, "level", pa.array([1] * 6, pa.int8())), examples_of(table).ids, "question_answer", QA
        ),
    ]
    assert len({variant.table_fingerprint() for variant in variants}) == 4


# --- access ----------------------------------------------------------------------------------------------------


def test_take_keeps_types_metadata_and_pairs_ids_with_rows() -> None:
    table = qa_table(kind=pa.dictionary(pa.int32(), pa.string())).replace_schema_metadata({"a": "b"})
    examples = examples_of(rechunked(table, [2, 2]))
    taken = examples.take(np.array([4, 0, 2]))
    assert taken.table.schema.equals(examples.table.schema, check_metadata=True)
    assert taken.ids.to_pylist() == [examples.ids[k].as_py() for k in (4, 0, 2)]
    assert taken.texts("prompt", 0, 3) == ["ü", "a", "ab"]
    assert taken.texts("completion", 1, 2) == ["b"]


def test_sources_are_strings_with_none_for_null() -> None:
    table = qa_table().append_column("source", pa.array([7, 8, None, 7, 7, 8]))
    sources = examples_of(table).sources()
    assert sources is not None
    assert sources.tolist() == ["7", "8", None, "7", "7", "8"]
    assert examples_of(qa_table()).sources() is None


def test_texts_of_conversations_are_role_and_content_only() -> None:
    renamed = [[{"from": "human", "value": "q", "weight": 0}, {"from": "gpt", "value": "r", "weight": 1}]]
    examples = examples_of(pa.table({"conversations": renamed}))
    assert examples.texts("messages", 0, 1) == [TURNS[0]]
    halves = examples_of(pa.table({"prompt": [t[:-1] for t in TURNS], "completion": [t[-1:] for t in TURNS]}))
    assert halves.shape == "messages"
    assert halves.texts("messages", 1, 3) == TURNS[1:]
    assert halves.texts("completion", 1, 3) == [turns[-1:] for turns in TURNS[1:]]


def test_missing_role_is_an_error_with_the_remedy() -> None:
    with pytest.raises(InputError, match="--columns final_answer=COLUMN"):
        examples_of(qa_table()).column("final_answer")


def test_examples_refuse_what_does_not_belong_together() -> None:
    with pytest.raises(InputError, match="5 ids for 6 rows"):
        Examples(qa_table(), pa.array(list("12345")), "question_answer", QA)
    with pytest.raises(InputError, match="unknown shape 'qa'"):
        Examples(qa_table(), pa.array(list("123456")), "qa", QA)
    with pytest.raises(InputError, match="role 'text' names column 'body'"):
        Examples(qa_table(), pa.array(list("123456")), "text", {"text": "body"})


# --- shapes ----------------------------------------------------------------------------------------------------

MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
TEXT = pa.string()


@pytest.mark.parametrize(
    ("fields", "shape", "content"),
    [
        ({"prompt": TEXT, "completion": TEXT}, "prompt_completion", ["prompt", "completion"]),
        ({"prompt": TEXT, "response": TEXT}, "prompt_completion", ["prompt", "response"]),
        ({"instruction": TEXT, "output": TEXT}, "instruction", ["instruction", "output"]),
        ({"output": TEXT, "input": TEXT, "instruction": TEXT}, "instruction", ["instruction", "input", "output"]),
        (
            {"instruction": TEXT, "context": TEXT, "response": TEXT},
            "instruction",
            ["instruction", "context", "response"],
        ),
        ({"question": TEXT, "answer": TEXT}, "question_answer", ["question", "answer"]),
        ({"problem": TEXT, "solution": TEXT, "answer": TEXT}, "question_answer", ["problem", "solution"]),
        ({"Query": TEXT, "Response": TEXT}, "question_answer", ["Query", "Response"]),
        ({"messages": MESSAGES, "prompt": TEXT, "completion": TEXT}, "messages", ["messages"]),
        ({"messages": TEXT, "text": pa.large_string()}, "text", ["text"]),
        ({"prompt": MESSAGES, "completion": MESSAGES}, "messages", ["prompt", "completion"]),
        ({"text": pa.dictionary(pa.int8(), TEXT)}, "text", ["text"]),
    ],
)
def test_shape_is_recognised_from_names_and_types(
    fields: dict[str, pa.DataType], shape: str, content: list[str]
) -> None:
    found, columns = recognise(pa.schema(fields))
    assert found == shape
    assert [columns[role] for role in content_roles(found, columns)] == content
    assert set(columns) <= set(ROLES)


def test_optional_roles() -> None:
    schema = pa.schema({"id": TEXT, "question": TEXT, "answer": TEXT, "final_answer": TEXT, "source": TEXT})
    assert recognise(schema)[1] == {**QA, "id": "id", "source": "source", "final_answer": "final_answer"}
    # Trained on, the final answer still is the final answer, and an empty `answer` is not.
    assert recognise(schema, {"completion": "final_answer"})[1]["final_answer"] == "final_answer"
    bare = pa.schema({"question": TEXT, "answer": TEXT})
    assert "final_answer" not in recognise(bare)[1]
    worked = pa.schema({"problem": TEXT, "solution": TEXT, "answer": TEXT})
    assert recognise(worked)[1]["final_answer"] == "answer"
    assert recognise(bare, {"final_answer": "answer"})[1]["final_answer"] == "answer"


def test_given_columns_and_shape_win() -> None:
    schema = pa.schema({"question": TEXT, "answer": TEXT, "text": TEXT, "body": TEXT, "chat": MESSAGES})
    assert recognise(schema, shape="text") == ("text", {"text": "text", "final_answer": "answer"})
    assert recognise(schema, {"text": "body"})[1]["text"] == "body"
    assert recognise(schema, {"prompt": "body", "completion": "text"})[0] == "prompt_completion"
    assert recognise(schema, {"messages": "chat"})[0] == "messages"
    assert recognise(schema, {"completion": "body"})[1]["prompt"] == "question"
    shape, columns = recognise(schema, {"instruction": "question", "output": "answer", "input": "body"})
    assert (shape, columns["input"]) == ("instruction", "body")


@pytest.mark.parametrize(
    ("fields", "columns", "shape", "message"),
    [
        (
            {"question": TEXT, "answer": TEXT},
            {"completion": "anwser"},
            None,
            "no column 'anwser'.*did you mean 'answer'",
        ),
        ({"question": TEXT, "answer": TEXT}, {"completon": "answer"}, None, "unknown role 'completon'.*'completion'"),
        ({"question": TEXT, "answer": TEXT}, {}, "mesages", "unknown shape 'mesages'.*'messages'"),
        ({"question": TEXT, "answer": TEXT}, {}, "instruction", "shape instruction needs.*instruction=COLUMN,output="),
        (
            {"a": TEXT, "b": TEXT},
            {},
            None,
            "columns a, b match no known shape.*--columns prompt=COLUMN,completion=COLUMN",
        ),
        ({"question": TEXT, "answer": pa.int64()}, {}, None, "'answer' holds int64, not text.*completion=COLUMN"),
        ({"messages": TEXT}, {}, None, "'messages' holds string, not a list of messages"),
        ({"prompt": MESSAGES, "completion": TEXT}, {}, None, "'completion' holds string, not a list of messages"),
        ({"text": TEXT, "x": MESSAGES}, {"source": "x"}, None, "column 'x' holds list.* cannot be source"),
    ],
)
def test_shape_errors_name_the_fault_and_the_remedy(
    fields: dict[str, pa.DataType], columns: dict[str, str], shape: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        recognise(pa.schema(fields), columns, shape)
    assert "\n" not in str(caught.value)


def test_parse_columns() -> None:
    text = "prompt=question, completion=the answer,final_answer=f,id=i,source=s"
    expected = {"prompt": "question", "completion": "the answer", "final_answer": "f", "id": "i", "source": "s"}
    assert parse_columns(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt", "'prompt' is not ROLE=COLUMN"),
        ("prompt=", "is not ROLE=COLUMN"),
        ("", "is not ROLE=COLUMN"),
        ("prompt=a,prompt=b", "role 'prompt' is given twice"),
        ("promt=a", "unknown role 'promt'.*did you mean 'prompt'"),
    ],
)
def test_parse_columns_errors(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_columns(text)


def test_every_shape_has_roles() -> None:
    assert set(SHAPES) == {"prompt_completion", "instruction", "question_answer", "messages", "text"}


def test_a_column_serves_one_content_role_only() -> None:
    schema = pa.schema({"question": TEXT, "answer": TEXT})
    with pytest.raises(InputError, match="prompt=question,completion=question: a column cannot be both"):
        recognise(schema, {"prompt": "question", "completion": "question"})
    assert recognise(schema, {"completion": "answer", "final_answer": "answer", "id": "answer"})[1]["id"] == "answer"
    # What the caller named for one role is not found again for another.
    found = recognise(pa.schema({"response": TEXT, "answer": TEXT}), {"prompt": "response"}, "question_answer")[1]
    assert (found["prompt"], found["completion"]) == ("response", "answer")
    context = pa.schema({"context": TEXT, "output": TEXT})
    assert "input" not in recognise(context, {"instruction": "context"})[1]
    with pytest.raises(InputError, match="prompt=COLUMN"):
        recognise(schema, {"prompt": "answer"}, "prompt_completion")


def test_messages_about_many_columns_or_long_types_and_cells_stay_short() -> None:
    names = [f"column-{k}" * (1 + 20 * (k == 1)) for k in range(500)]
    schema = pa.schema([(name, TEXT) for name in names])
    for columns, shape in (({}, None), ({}, "instruction"), ({"prompt": "nothing"}, None)):
        with pytest.raises(InputError, match=r"column-0, .*\.\.\. \(500 in all\)") as caught:
            recognise(schema, columns, shape)
        assert len(str(caught.value)) < 300
    wide = pa.struct([(name, TEXT) for name in names])
    with pytest.raises(InputError, match="cannot be source") as caught:
        recognise(pa.schema({"text": TEXT, "x": wide}), {"source": "x"}, None)
    assert len(str(caught.value)) < 300
    table = pa.table({"text": ["a " * 1000, "b " * 1000], "x": pa.nulls(2, wide)})
    for where in ("text=c", "x=c", "y=c"):
        with pytest.raises(InputError) as caught:
            curate.read(table, where=where)
        assert len(str(caught.value)) < 300


def test_an_object_of_rows_by_id_is_refused_with_a_command_that_makes_it_a_list(tmp_path: Path) -> None:
    rows = {f"p{k}": {"prompt": f"question {k}", "completion": f"answer {k}"} for k in range(500)}
    (tmp_path / "FILE").write_text(json.dumps(rows))
    (tmp_path / "by_id.json").write_text(json.dumps(rows, indent=1))
    with pytest.raises(InputError, match=r"^columns p0, p1, .*\(500 in all\) hold objects.*: python -c ") as caught:
        curate.read(tmp_path / "by_id.json")
    assert len(str(caught.value)) < 300
    command = str(caught.value).partition("make it a list: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    answers = curate.read(tmp_path / "rows.json").examples.column("completion").to_pylist()
    assert answers == [f"answer {k}" for k in range(500)]
