"""Rows written in the forms that trainers take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.data.columns import PAIR_ROLES, content_roles
from curate.data.examples import Examples
from curate.data.turns import last_learned
from curate.data.written_form import FORMS, WriteAs, is_text_form
from curate.errors import InputError

Row = dict[str, Any]
Conversation = list[dict[str, Any]]

_ROWS = 16_384  # at a time; bounds the Python objects alive at once
_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}


def check_form(examples: Examples, form: WriteAs) -> None:
    """Raise InputError where rows of this shape have no such form."""
    if form not in FORMS:
        raise InputError(f"--write-as {form}: there is no such form; forms are {', '.join(FORMS)}")
    if form != "input" and examples.shape == "text":
        raise InputError(
            f"--write-as {form} needs rows with a prompt and a completion, and these are texts; leave it out, or name "
            "columns with --columns prompt=COLUMN,completion=COLUMN"
        )


def in_form(parts: Sequence[Examples], tables: Sequence[pa.Table], form: WriteAs) -> list[pa.Table]:
    """The rows with what a model reads of them in this form, behind their other columns as they are in the tables.

    parts: examples of one shape and roles, with a table each. Columns that a model reads, and others of the names that
    the form needs, are left out. Raises InputError naming the row that the form cannot hold.
    """
    check_form(parts[0], form)
    if form == "input":
        return list(tables)
    made = [_made(examples, form) for examples in parts]
    names = {name for table in made for name in table.column_names}
    examples = parts[0]
    read = {examples.columns[role] for role in content_roles(examples.shape, examples.columns)}
    read |= {examples.columns[role] for role in PAIR_ROLES if role in examples.columns}
    kept = [name for name in tables[0].column_names if name not in read and name not in names]
    whole = pa.concat_tables(made, promote_options="permissive")
    found, low = [], 0
    for table in tables:
        piece = whole.slice(low, table.num_rows)
        low += table.num_rows
        found.append(pa.table({**{name: table[name] for name in kept}, **{n: piece[n] for n in whole.column_names}}))
    return found


def _made(examples: Examples, form: WriteAs) -> pa.Table:
    """The columns of a form alone."""
    blocks = []
    for low in range(0, max(len(examples), 1), _ROWS):
        rows = list(_rows(examples, form, low))
        names = dict.fromkeys(name for row in rows for name in row)
        blocks.append(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}))
    return pa.concat_tables(blocks, promote_options="permissive")


def _rows(examples: Examples, form: WriteAs, low: int) -> Iterator[Row]:
    """What the form has for the rows from `low` on."""
    high = min(low + _ROWS, len(examples))
    make: Callable[..., Row] = {"alpaca": _alpaca, "sharegpt": _sharegpt}.get(form, _apart)
    if form == "messages" and not examples.paired and "label" not in examples.columns:
        make = _whole
    chosen = _divided(examples, low, high)
    rejected = _divided(examples.rejected(), low, high) if examples.paired else [None] * len(chosen)
    labels = examples.column("label").slice(low, high - low).to_pylist() if "label" in examples.columns else None
    tools = _tools(examples, low, high)
    texts = form == "prompt_completion" and is_text_form(examples)
    for k, ((asked, answer), other) in enumerate(zip(chosen, rejected, strict=True)):
        try:
            row = make(asked, answer, None if other is None else other[1])
        except _Unfit as error:
            where = examples.ids[low + k].as_py()
            raise InputError(
                f"--write-as {form}: the row with id {where} {error}; write messages or sharegpt instead"
            ) from error
        if texts:
            row = {
                name: _said(value) if name != "prompt" else _asked(value, examples.shape) for name, value in row.items()
            }
        if tools[k] is not None:
            row["tools"] = tools[k]
        if labels is not None:
            row["label"] = labels[k]
        yield row


class _Unfit(Exception):
    """A row that a form cannot hold; the message says why."""


def _divided(examples: Examples, low: int, high: int) -> list[tuple[Conversation, Conversation]]:
    """Prompt and answer of each row: the last thing of the assistant to be learned, or what the completion holds."""
    found = examples.conversations(low, high)
    if examples.shape == "messages" and "messages" not in examples.columns:
        counts = [len(turns) for turns in examples.texts("completion", low, high)]
        ends = [(len(turns) - count, len(turns)) for turns, count in zip(found, counts, strict=True)]
    else:
        last = [last_learned(turns) for turns in found]
        ends = [(k, k + 1) for k in last]
    return [(turns[:begin], turns[begin:end]) for turns, (begin, end) in zip(found, ends, strict=True)]


def _tools(examples: Examples, low: int, high: int) -> list[str | None]:
    if "tools" not in examples.columns:
        return [None] * (high - low)
    return [json.dumps(tools, ensure_ascii=False) if tools else None for tools in examples.texts("tools", low, high)]


def _whole(asked: Conversation, answer: Conversation, other: None) -> Row:
    return {"messages": _plain([*asked, *answer])}


def _apart(asked: Conversation, answer: Conversation, other: Conversation | None) -> Row:
    prompt = [{key: value for key, value in turn.items() if key != "train"} for turn in _plain(asked)]
    if other is None:
        return {"prompt": prompt, "completion": _plain(answer)}
    return {"prompt": prompt, "chosen": _plain(answer), "rejected": _plain(other)}


def _plain(turns: Conversation) -> Conversation:
    """Messages as chat templates take them, with the arguments of calls as JSON text."""
    return [
        {**turn, "tool_calls": [_call(call) for call in turn["tool_calls"]]} if "tool_calls" in turn else turn
        for turn in turns
    ]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _said(turns: Conversation) -> str:
    return "".join(turn["content"] for turn in turns)


def _asked(turns: Conversation, shape: str) -> str:
    """The prompt as one text; where trainers would put the answer right behind a question, with a line break."""
    text = "\n\n".join(turn["content"] for turn in turns)
    return text if shape == "prompt_completion" and len(turns) == 1 else text + "\n"


def _alpaca(asked: Conversation, answer: Conversation, other: Conversation | None) -> Row:
    system, turns = _without_system(asked)
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise _Unfit("is no exchange of user and assistant in turn, which alpaca is")
    if any("tool_calls" in turn for turn in [*turns, *answer]):
        raise _Unfit("has tool calls, which alpaca has not")
    said = [turn["content"] for turn in turns]
    row: Row = {"instruction": said[-1], "input": ""}
    row |= {"output": _said(answer)} if other is None else {"chosen": _said(answer), "rejected": _said(other)}
    row |= {"system": system} if system else {}
    pairs = [said[k : k + 2] for k in range(0, len(said) - 1, 2)]
    return row | ({"history": pairs} if pairs else {})


def _sharegpt(asked: Conversation, answer: Conversation, other: Conversation | None) -> Row:
    system, turns = _without_system(asked)
    row: Row = {"system": system} if system else {}
    if other is None:
        return {"conversations": _spoken([*turns, *answer])} | row
    prompt = [{key: value for key, value in turn.items() if key != "train"} for turn in turns]
    first, second = _spoken(answer), _spoken(other)
    if len(first) != 1 or len(second) != 1:
        raise _Unfit("has an answer of several messages, and sharegpt has one")
    return {"conversations": _spoken(prompt), "chosen": first[0], "rejected": second[0]} | row


def _without_system(turns: Conversation) -> tuple[str, Conversation]:
    begin = next((k for k, turn in enumerate(turns) if turn["role"] not in ("system", "developer")), len(turns))
    return "\n\n".join(turn["content"] for turn in turns[:begin]), turns[begin:]


def _spoken(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns by from and value, and train where they are not learned; calls as JSON text of one, or of several."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        begin = len(found)
        if turn["content"] or "tool_calls" not in turn:
            found.append({"from": _SHAREGPT.get(turn["role"], turn["role"]), "value": turn["content"]})
        if "tool_calls" in turn:
            calls = [_named_call(call["function"]) for call in turn["tool_calls"]]
            value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            found.append({"from": "function_call", "value": value})
        if "train" in turn:
            found[begin:] = [{**each, "train": turn["train"]} for each in found[begin:]]
    return found


def _named_call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:  # arguments that are no JSON stay text
        value = arguments
    return {"name": function["name"], "arguments": value}
