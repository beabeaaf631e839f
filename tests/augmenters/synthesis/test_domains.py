"""The same loop for programs with tests and for tool calls, against scripted generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from augmenters import Synthesize
from augmenters.synthesis.domains import MATHS, Domain, grading, second_route_of, tools_text
from augmenters.synthesis.source_rows import find_domain, source_rows
from augmenters.synthesis.variants import SourceRow
from curate import InputError, Run, fold, read, realize
from curate.data.examples import Examples
from curate.generators.requests import Sampling
from curate.graders import JSON, Exact, Tests
from curate.verify import Verdict
from tests.fixtures.domains import CallsWriter, CodeWriter, calls, programs
from tests.fixtures.synthesis_pipelines import COLUMNS, Writer, all_hard, rows

ROW = SourceRow(0, "a", "What is 3 + 4?", "3 + 4 = 7", "7")


def made(table: pa.Table, tmp_path: Path, **settings: Any) -> Any:
    data = read(table).examples
    plan = fold([Synthesize(noise_guard=0, variants=1, **settings)], all_hard(data))
    (realized,) = realize(plan, data, Run(cache=tmp_path))
    return realized


def test_programs_are_graded_by_the_tests_of_their_row(tmp_path: Path) -> None:
    realized = made(programs(4), tmp_path, generator=CodeWriter(), run_programs=True, samples=4, band=(1, 3))
    record, new = realized.summary.record, realized.rows.table.to_pylist()
    assert record["outcomes"].get("kept", 0) == len(new) > 0
    assert record["verdicts"]["right"] > 0 < record["verdicts"]["wrong"]
    for row in new:
        factor = row["question"].partition("times_")[2].partition(" ")[0]
        assert f"assert times_{factor}(2) == {2 * int(factor)}" in row["tests"]  # as those of its parent
        assert f"return x * {factor}" in row["answer"]


def test_tool_calls_are_graded_by_value_and_see_their_tools(tmp_path: Path) -> None:
    seen: list[str] = []

    class Watching(CallsWriter):
        def says(self, text: str, seed: Any) -> str:
            seen.append(text)
            return super().says(text, seed)

    realized = made(calls(6), tmp_path, generator=Watching())
    record, new = realized.summary.record, realized.rows.table.to_pylist()
    assert record["outcomes"].get("kept", 0) == len(new) > 0
    assert all('"name": "book"' in text for text in seen)
    assert all(row["tools"] == calls(1)["tools"][0].as_py() and "<tool_call>" in row["completion"] for row in new)
    assert set(record["checks"]) >= {"different", "second_route"}
    assert record["checks"]["grounded"]["made"] == 0  # says nothing of calls


def in_messages(form: str, n: int) -> list[dict[str, Any]]:
    """The rows of `calls` as messages, with the calls in fields of several forms."""
    rows = []
    for k, row in enumerate(calls(n).to_pylist()):
        call = json.loads(row["completion"].strip().removeprefix("<tool_call>").removesuffix("</tool_call>"))
        asks, answers = {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": f"At once, {k}."}
        text = json.dumps(call["arguments"])
        if form == "text":
            answers["tool_calls"] = [{"id": f"c{k}", "type": "function", "function": {**call, "arguments": text}}]
        elif form == "objects":
            answers |= {
                "content": None,
                "tool_calls": [{"type": "function", "function": call}],
                "reasoning_content": "hm",
            }
        elif form == "one call":
            answers["function_call"] = {**call, "arguments": text}
        elif form == "parts":
            used = {"type": "tool_use", "id": f"c{k}", "name": "book", "input": call["arguments"]}
            answers["content"] = [{"type": "text", "text": "At once."}, used]
        else:
            asks = {"from": "human", "value": row["prompt"]}
            answers = {"from": "function_call", "value": json.dumps(call)}
        system = {"system": "You book rooms."} if form == "sharegpt" else {}
        rows.append({"messages": [asks, answers], "tools": json.loads(row["tools"]), **system})
    return rows


@pytest.mark.parametrize("form", ["text", "objects", "one call", "parts", "sharegpt"])
def test_calls_in_fields_of_messages_are_written_in_their_form(form: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in in_messages(form, 6)))
    data = read(path).examples
    plan = fold([Synthesize(noise_guard=0, variants=1, generator=CallsWriter())], all_hard(data))
    (realized,) = realize(plan, data, Run(cache=tmp_path / "cache"))
    assert realized.summary.record["rows"]["started from"] == 6
    assert realized.summary.record["outcomes"]["kept"] == len(realized.rows.ids) > 0
    parents = dict(zip(data.ids.to_pylist(), data.conversations(0, 6), strict=True))
    read_back = Examples(realized.rows.table, pa.array(realized.rows.ids), data.shape, data.columns)
    for turns, parent in zip(read_back.conversations(0, len(read_back)), realized.rows.source_ids, strict=True):
        *before, answer = turns
        assert answer["tool_calls"] == parents[parent][-1]["tool_calls"]
        assert (answer["content"], "reasoning_content" in answer) == (
            "",
            False,
        )  # those were about the parent's request
        assert before[:-1] == parents[parent][:-2]  # the system message
        assert "stay in room" in before[-1]["content"]
    tools = [around.tools for around in read_back.surroundings(0, len(read_back))]
    assert tools == [data.surroundings(0, 1)[0].tools] * len(read_back)


def test_calls_in_fields_are_left_to_the_grader_that_compares_them() -> None:
    data = read(pa.Table.from_pylist(in_messages("text", 3))).examples
    assert [row.solution[:11] for row in source_rows(data, np.arange(3), Domain(JSON())).rows] == ["<tool_call>"] * 3
    assert source_rows(data, np.arange(3), Domain(Exact())).skipped == {"not one problem with one solution": 3}


def test_what_grades_the_rows_is_found() -> None:
    assert isinstance(find_domain(read(programs(3)).examples, None, run_programs=True).grader, Tests)
    assert isinstance(find_domain(read(calls(3)).examples, None, run_programs=False).grader, JSON)
    assert find_domain(read(rows(), columns=COLUMNS).examples, None, run_programs=False) is MATHS
    assert find_domain(read(rows(), columns=COLUMNS).examples, None, run_programs=True) is MATHS


def test_programs_do_not_run_unasked_and_strategies_need_answers() -> None:
    data = read(programs(3)).examples
    with pytest.raises(InputError, match="--run-programs"):
        Synthesize(generator=CodeWriter()).check_examples(data)
    with pytest.raises(InputError, match="strategy skeleton is for problems with final answers"):
        Synthesize(generator=CodeWriter(), run_programs=True, strategy="skeleton").check_examples(data)
    with pytest.raises(InputError, match="second_route program"):
        Synthesize(generator=CodeWriter(), run_programs=True, second_route="program").check_examples(data)
    with pytest.raises(InputError, match="is not a grader"):
        Synthesize(generator=Writer(), grader=7)


def test_a_row_whose_own_program_fails_its_tests_is_not_started_from() -> None:
    table = programs(3)
    broken = table.set_column(
        1, "answer", pa.array(["def times_3(x):\n    return 7\n", *table["answer"].to_pylist()[1:]])
    )
    data = read(broken).examples
    domain = find_domain(data, None, run_programs=True)
    found = source_rows(data, np.arange(3), domain)
    assert found.skipped == {"solution and final answer disagree": 1}
    assert [row.row for row in found.rows] == [1, 2]


def test_what_a_second_route_arrives_at() -> None:
    domain = find_domain(read(calls(3)).examples, None, run_programs=False)
    call = '<tool_call>{"name": "book", "arguments": {"room": 1}}</tool_call>'
    assert domain.answer(call, Verdict.wrong) == domain.answer(call.replace(": 1", ": 1.0"), Verdict.wrong)
    assert domain.answer("This is unsolvable: no room.", Verdict.undecided) == "unsolvable"
    assert domain.answer(call, Verdict.right) is None
    assert tools_text([{"a": 1}, {"b": 2}]) == '{"a": 1}\n{"b": 2}'


def test_final_answers_count_only_where_they_are_marked() -> None:
    grades = grading(MATHS, run_programs=False)
    assert grades("so \\boxed{7}", ROW) == Verdict.right
    assert grades("so \\boxed{8}", ROW) == Verdict.wrong
    assert grades("it may be 7 or 8", ROW) == Verdict.undecided


def test_the_second_route_by_a_program_goes_by_what_it_prints() -> None:
    route = second_route_of(MATHS, 2, Sampling(), program=True, run_programs=True)
    assert "Python program" in route.prompt
    assert route.grade("```python\nprint(3 + 4)\n```", ROW) == Verdict.right
    assert route.grade("```python\nprint(3 * 4)\n```", ROW) == Verdict.wrong
    assert route.grade("```python\nprint(1 / 0)\n```", ROW) == Verdict.undecided
    assert route.grade("\\boxed{7}", ROW) == Verdict.undecided
    assert route.answer("```python\nprint(3 * 4)\n```", Verdict.wrong) == "12"


def test_a_grader_sees_the_reference_and_the_row() -> None:
    call = '{"name": "add", "arguments": {"a": 1}}'
    row = SourceRow(0, "a", "Add one.", call, call)
    grades = grading(Domain(JSON(), ("variation_calls", "solution_calls", "second_calls")), run_programs=False)
    assert grades(f"<tool_call>{call}</tool_call>", row) == Verdict.right
    assert grades(call.replace("1", "2"), row) == Verdict.wrong
    route = second_route_of(Domain(JSON()), 2, Sampling(), program=True, run_programs=True)
    assert route.grade(call, row) == Verdict.right  # no final answer that a program could print
