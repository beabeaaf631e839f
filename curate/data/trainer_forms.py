"""Convert rows to the forms that trainers take: messages, prompt_completion, alpaca and sharegpt."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.data.columns import PAIR_ROLES, content_roles, message_keys, spoken_roles
from curate.data.examples import Examples
from curate.data.messages import survey
from curate.data.turns import is_learned, last_learned
from curate.data.written_form import FORMS, WriteAs, is_text_form
from curate.errors import DataWarning, InputError

Row = dict[str, Any]
Conversation = list[dict[str, Any]]

_ROWS = 16_384  # at a time; bounds the Python objects alive at once
_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}


# Warnings about rows that a form cannot express fully, or that some trainers drop.
_REMARKS = {
    "unlearned": "have turns of the assistant that are not to be learned, which this form cannot mark: trainers may "
    "learn them; --write-as messages keeps the mark, and prompt_completion the last answer alone",
    "earlier": "have several answers that are learned, and this form the last one alone; --write-as messages keeps all",
    "order": "are not an exchange of question (or result) and answer (or call) in turn: LLaMA-Factory leaves them out; "
    "--write-as messages keeps them as they are",
}


def check_form(examples: Examples, form: WriteAs) -> None:
    """Raise InputError if rows of this shape, or one of the rows, cannot be written in this form."""
    if form not in FORMS:
        raise InputError(f"--write-as {form}: there is no such form; forms are {', '.join(FORMS)}")
    if form != "input" and examples.shape == "text":
        raise InputError(
            f"--write-as {form} needs rows with a prompt and a completion, and these are texts; leave it out, or name "
            "columns with --columns prompt=COLUMN,completion=COLUMN"
        )
    if form == "input":
        return
    _check_parts(examples, form)
    if form == "alpaca" or (form == "sharegpt" and examples.paired):  # convert all rows, to fail before training
        for low in range(0, len(examples), _ROWS):
            for _ in _rows(examples, form, low, Counter()):
                pass


def _check_parts(examples: Examples, form: WriteAs) -> None:
    """Raise InputError for messages with images and the like, which text forms cannot hold."""
    if examples.shape != "messages":
        return
    for side in [examples, examples.rejected()] if examples.paired else [examples]:
        for role in spoken_roles(side.shape, side.columns):
            unseen = survey(side.column(role), message_keys(side.columns), answered=False).unseen
            if unseen:
                kinds = ", ".join(f"{kind} in {rows:,} rows" for kind, rows in sorted(unseen.items()))
                raise InputError(
                    f"--write-as {form}: column {side.columns[role]!r} has parts other than text and calls ({kinds}), "
                    "which this form does not support; leave --write-as out"
                )


def in_form(parts: Sequence[Examples], tables: Sequence[pa.Table], form: WriteAs) -> list[pa.Table]:
    """The tables with content columns replaced by those of a form.

    parts: examples of the same shape and roles, one for each table. Content columns, and others with a name that the
    form uses, are dropped. Raises InputError with the row that the form cannot hold; a DataWarning reports rows that
    it cannot express fully.
    """
    check_form(parts[0], form)
    if form == "input":
        return list(tables)
    remark_counts: Counter[str] = Counter()
    form_tables = [_made(examples, form, remark_counts) for examples in parts]
    for remark, rows in remark_counts.items():
        warnings.warn(f"--write-as {form}: {rows:,} rows {_REMARKS[remark]}", DataWarning, stacklevel=2)
    names = {name for table in form_tables for name in table.column_names}
    examples = parts[0]
    read = {examples.columns[role] for role in content_roles(examples.shape, examples.columns)}
    read |= {examples.columns[role] for role in PAIR_ROLES if role in examples.columns}
    kept_columns = [name for name in tables[0].column_names if name not in read and name not in names]
    joined = pa.concat_tables(form_tables, promote_options="permissive")
    combined, low = [], 0
    for table in tables:
        piece = joined.slice(low, table.num_rows)
        low += table.num_rows
        combined.append(
            pa.table({**{name: table[name] for name in kept_columns}, **{n: piece[n] for n in joined.column_names}})
        )
    return combined


def _made(examples: Examples, form: WriteAs, remarks: Counter[str]) -> pa.Table:
    """The columns of a form. remarks: {name of a remark: rows}, updated."""
    blocks = []
    for low in range(0, max(len(examples), 1), _ROWS):
        rows = list(_rows(examples, form, low, remarks))
        names = dict.fromkeys(name for row in rows for name in row)
        blocks.append(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}))
    return pa.concat_tables(blocks, promote_options="permissive")


def _rows(examples: Examples, form: WriteAs, low: int, remarks: Counter[str]) -> Iterator[Row]:
    """`_ROWS` rows from `low` on in a form. remarks: {name of a remark: rows}, updated."""
    high = min(low + _ROWS, len(examples))
    make: Callable[..., Row] = {"alpaca": _alpaca, "sharegpt": _sharegpt}.get(form, _apart)
    if form == "messages" and not examples.paired and "label" not in examples.columns:
        make = _whole
    chosen = _divided(examples, low, high)
    rejected = _divided(examples.rejected(), low, high) if examples.paired else [None] * len(chosen)
    labels = examples.column("label").slice(low, high - low).to_pylist() if "label" in examples.columns else None
    tools = _tools(examples, low, high)
    texts = form == "prompt_completion" and is_text_form(examples)
    for k, ((prompt_turns, answer), rejected_turns) in enumerate(zip(chosen, rejected, strict=True)):
        try:
            row = make(prompt_turns, answer, None if rejected_turns is None else rejected_turns[1])
        except _Unfit as error:
            row_id = examples.ids[low + k].as_py()
            raise InputError(
                f"--write-as {form}: the row with id {row_id} {error}; write messages or sharegpt instead"
            ) from error
        remarks.update(_remarks(examples, form, prompt_turns, row))
        if texts:
            row = {
                name: _said(value) if name != "prompt" else _asked(value, examples.shape) for name, value in row.items()
            }
        if tools[k] is not None:
            row["tools"] = tools[k]
        if labels is not None:
            row["label"] = labels[k]
        yield row


def _remarks(examples: Examples, form: WriteAs, prompt_turns: Conversation, row: Row) -> Iterator[str]:
    """Names of the remarks that apply to a row, see `_REMARKS`."""
    assistant_turns = [turn for turn in prompt_turns if turn["role"] == "assistant"]
    if form == "alpaca" and "messages" in examples.columns and not all(map(is_learned, assistant_turns)):
        yield "unlearned"
    if form == "prompt_completion" and "messages" in examples.columns and any(map(is_learned, assistant_turns)):
        yield "earlier"
    if form == "sharegpt":
        turns = row["conversations"]
        if any((turn["from"] in ("human", "observation")) != (k % 2 == 0) for k, turn in enumerate(turns)):
            yield "order"


class _Unfit(Exception):
    """A row that a form cannot hold; the message says why."""


def _divided(examples: Examples, low: int, high: int) -> list[tuple[Conversation, Conversation]]:
    """(prompt, answer) of each row; the answer is the completion, or the last learned turn of a conversation."""
    conversations = examples.conversations(low, high)
    if examples.shape == "messages" and "messages" not in examples.columns:
        counts = [len(turns) for turns in examples.texts("completion", low, high)]
        ends = [(len(turns) - count, len(turns)) for turns, count in zip(conversations, counts, strict=True)]
    else:
        last = [last_learned(turns) for turns in conversations]
        ends = [(k, k + 1) for k in last]
    return [(turns[:begin], turns[begin:end]) for turns, (begin, end) in zip(conversations, ends, strict=True)]


def _tools(examples: Examples, low: int, high: int) -> list[str | None]:
    if "tools" not in examples.columns:
        return [None] * (high - low)
    return [json.dumps(tools, ensure_ascii=False) if tools else None for tools in examples.texts("tools", low, high)]


def _whole(prompt_turns: Conversation, answer: Conversation, rejected_turns: None) -> Row:
    return {"messages": _plain([*prompt_turns, *answer])}


def _apart(prompt_turns: Conversation, answer: Conversation, rejected_turns: Conversation | None) -> Row:
    prompt = [{key: value for key, value in turn.items() if key != "train"} for turn in _plain(prompt_turns)]
    if rejected_turns is None:
        return {"prompt": prompt, "completion": _plain(answer)}
    return {"prompt": prompt, "chosen": _plain(answer), "rejected": _plain(rejected_turns)}


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
    return "".join(map(_with_reasoning, turns))


def _with_reasoning(turn: Mapping[str, Any]) -> str:
    """The content of a turn, preceded by its reasoning in <think>, for forms without a field for reasoning."""
    thought = turn.get("reasoning_content")
    content: str = turn["content"]
    return f"<think>\n{thought}\n</think>\n\n{content}" if thought else content


def _asked(turns: Conversation, shape: str) -> str:
    """The prompt as one text, with a line break if trainers would otherwise append the answer directly."""
    text = "\n\n".join(turn["content"] for turn in turns)
    return text if shape == "prompt_completion" and len(turns) == 1 else text + "\n"


def _alpaca(prompt_turns: Conversation, answer: Conversation, rejected_turns: Conversation | None) -> Row:
    """A row in Alpaca's form, with earlier exchanges as history. Raises _Unfit."""
    system, turns = _without_system(prompt_turns)
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise _Unfit("is not an exchange of user and assistant in turn, which alpaca is")
    if any("tool_calls" in turn for turn in [*turns, *answer]):
        raise _Unfit("has tool calls, which alpaca has not")
    contents = [_with_reasoning(turn) for turn in turns]
    row: Row = {"instruction": contents[-1], "input": ""}
    row |= (
        {"output": _said(answer)}
        if rejected_turns is None
        else {"chosen": _said(answer), "rejected": _said(rejected_turns)}
    )
    row |= {"system": system} if system else {}
    pairs = [contents[k : k + 2] for k in range(0, len(contents) - 1, 2)]
    return row | ({"history": pairs} if pairs else {})


def _sharegpt(prompt_turns: Conversation, answer: Conversation, rejected_turns: Conversation | None) -> Row:
    """A row in ShareGPT's form; for pairs as LLaMA-Factory takes them. Raises _Unfit."""
    system, turns = _without_system(prompt_turns)
    row: Row = {"system": system} if system else {}
    if rejected_turns is None:
        return {"conversations": _spoken([*turns, *answer])} | row
    prompt = [{key: value for key, value in turn.items() if key != "train"} for turn in turns]
    first, second = _spoken(answer), _spoken(rejected_turns)
    if len(first) != 1 or len(second) != 1:
        raise _Unfit("has an answer of several messages, and sharegpt has one")
    return {"conversations": _spoken(prompt), "chosen": first[0], "rejected": second[0]} | row


def _without_system(turns: Conversation) -> tuple[str, Conversation]:
    begin = next((k for k, turn in enumerate(turns) if turn["role"] not in ("system", "developer")), len(turns))
    return "\n\n".join(turn["content"] for turn in turns[:begin]), turns[begin:]


def _spoken(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns as ShareGPT messages: from, value, and train for turns that are not learned; calls are JSON text."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        begin = len(messages)
        content = _with_reasoning(turn)
        if content or "tool_calls" not in turn:
            messages.append({"from": _SHAREGPT.get(turn["role"], turn["role"]), "value": content})
        if "tool_calls" in turn:
            calls = [_named_call(call["function"]) for call in turn["tool_calls"]]
            value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            messages.append({"from": "function_call", "value": value})
        if "train" in turn:
            messages[begin:] = [{**message, "train": turn["train"]} for message in messages[begin:]]
    return messages


def _named_call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:  # arguments that are no JSON stay text
        value = arguments
    return {"name": function["name"], "arguments": value}
