"""Examples: ids, shapes, fingerprints. Properties first, then the errors."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.data import turns
from curate.data.columns import recognize
from curate.data.examples import Examples, content_ids, example_ids, hash_columns
from curate.data.readers import read
from curate.errors import InputError
from scorers.preference_margin import RejectedLoss

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
    shape, columns = recognize(table.schema)
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


def test_tokens_of_earlier_releases_do_not_hold_where_turns_of_the_prompt_were_learned() -> None:
    asked, said = ({"role": role, "content": "a"} for role in ("user", "assistant"))
    for prompt, same in (([asked], True), ([asked, said, asked], False)):
        examples = examples_of(pa.table({"prompt": [prompt], "completion": [[said]]}))
        columns = [(role, examples.column(role)) for role in ("prompt", "completion")]
        earlier = hash_columns([("messages", pa.array([], pa.string())), ("id", examples.ids), *columns])
        assert (examples.fingerprint() == earlier) is same
        assert examples.ids == examples_of(pa.table({"messages": [[*prompt, said]]})).ids


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


def test_work_on_rows_that_are_interpreted_is_keyed_anew() -> None:
    """Fingerprints of the release before, by which its caches are keyed; plain chats and prompts keep them."""
    asked, said = ({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a")))
    tools = '[{"name": "f"}]'
    rows: list[tuple[dict[str, Any], str, bool]] = [
        ({"messages": [asked, said]}, "17107428e628d4adc6900d5f73479c7c", True),
        ({"messages": [asked, {**said, "weight": 0}, asked, said]}, "b7f7bfd2967272b506d5f0efc4148ff1", False),
        ({"prompt": "q", "completion": "a", "tools": tools}, "61274019be29b5cedccffaf2a31babe1", False),
        ({"messages": [asked, said], "tools": tools}, "992eeb6f33429f523d45c0a170ea7158", False),
        (
            {"messages": [asked, said, {"role": "tool", "content": "1"}, said]},
            "6e031cd2f34f57af81b5794df455134d",
            False,
        ),
    ]
    for row, earlier, same in rows:
        assert (read([row]).examples.fingerprint() == earlier) is same, row


ASKED, SAID = ({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a")))
CALL = {"function": {"name": "f", "arguments": "{}"}}
# Rows with ids of their own, which say nothing of how they are read.
READ_ROWS: list[dict[str, Any]] = [
    {"messages": [ASKED, SAID]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f"}'}]},
    {"messages": [ASKED, {**SAID, "role": "bot"}]},
    {"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]},
    {"messages": [ASKED, {**SAID, "thinking": "t"}]},
    {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {**SAID, "role": "tool"}, SAID]},
    {"messages": [ASKED, {"role": "assistant", "content": [{"text": "t", "thought": True}, {"text": "a"}]}]},
    {"prompt": [ASKED, SAID, ASKED], "completion": [SAID]},
    {"prompt": "q", "completion": "a", "history": [["p", "b"]]},
    {"prompt": "q", "completion": "a", "system": ["s", "t"], "context": ["c", "d"]},
    {"messages": [ASKED, SAID], "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [{**SAID, "thinking": "t"}]},
]
# Parts of the reading, and what they might have been in an earlier release.
EARLIER_READINGS: list[tuple[str, Any]] = [
    ("turns._ROLES", {"user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}),
    ("turns._ROLES", {**turns._ROLES, "user": "system", "human": "system"}),
    ("turns.WEIGHT_KEYS", ()),
    ("turns.REASONING_KEYS", ()),
    ("turns._CALLS", ()),
    ("turns.looks_like_call", lambda content: False),
    ("turns.as_context", list),
    ("examples.as_context", list),
    ("message_parts.Parts._add_part", lambda parts, part: parts.texts.append(part["text"])),
    ("tool_calls._SCHEMAS", ()),
    ("surroundings.joined_context", lambda cell: " ".join(cell)),
    ("surroundings._said", lambda cell: " ".join(cell)),
]


def _shown(examples: Examples) -> list[Any]:
    both = [examples, examples.rejected()] if examples.paired else [examples]
    return [[each.conversations(0, len(each)), each.surroundings(0, len(each))] for each in both]


def _key(examples: Examples) -> list[str]:
    return [examples.fingerprint(), *([RejectedLoss().key_of(examples)] if examples.paired else [])]


def test_rows_that_were_read_otherwise_have_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = 0
    for k, row in enumerate(READ_ROWS):
        examples = read([{"id": "0", **row}]).examples
        now, key = _shown(examples), _key(examples)
        assert _key(replace(examples)) == key
        for name, earlier in EARLIER_READINGS:
            with monkeypatch.context() as patched:
                patched.setattr(f"curate.data.{name}", earlier)
                other = replace(examples)  # without what it remembers
                with suppress(InputError):  # which an earlier release did not read at all
                    assert (_shown(other) == now) == (_key(other) == key), (k, name)
                    changed += _shown(other) != now
    assert changed >= len(EARLIER_READINGS)
