"""Which grader an evaluation set has, what it needs, and where there is none."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from curate import graders
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet, parse_set
from curate.evaluation.evaluate import evaluate
from curate.evaluation.grading import protocol_of, verdicts
from curate.evaluation.sets import read_set
from curate.verify import Verdict
from curate.verify.sandbox import sandbox_layers
from tests.fixtures.evaluation import Said, asked, summary, table

CALL = {"name": "add", "arguments": {"a": 1, "b": [2.5]}}


def talk(question: str, call: dict[str, Any]) -> list[dict[str, Any]]:
    calls = [{"type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "", "tool_calls": calls}]


CALLS = pa.table({"messages": [talk(f"Add {k}?", CALL) for k in range(4)]})
LETTERS = pa.table({"prompt": [f"Which ({k})?\nA. a fox\nB. a hen" for k in range(4)], "completion": list("ABAB")})
LABELS = pa.table({"prompt": [f"How was film {k}?" for k in range(6)], "completion": ["not good at all", "so so"] * 3})
PROGRAMS = pa.table(
    {
        "prompt": [f"Double it, {k}." for k in range(3)],
        "completion": ["def twice(x):\n    return 2 * x"] * 3,
        "test_list": [["assert twice(2) == 4", "assert twice(0) == 0"]] * 3,
    }
)
CHAT = pa.table(
    {"prompt": ["Why?", "How?"], "completion": ["Because of it all, she said.", "By doing it well, my dear."]}
)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (table(), graders.Math),
        (CALLS, graders.JSON),
        (LETTERS, graders.Choice),
        (LABELS, graders.Exact),
        (PROGRAMS, graders.Tests),
        (CHAT, type(None)),
    ],
)
def test_the_shape_of_the_rows_chooses(rows: pa.Table, kind: type) -> None:
    found = asked(rows)
    assert type(found.grader) is kind
    assert all(answer is None for answer in found.answers) == (kind is type(None))
    assert (found.loss_only is None) == (kind is not type(None))


def test_final_answers_are_graded_by_one_protocol_and_each_other_grader_has_its_own() -> None:
    assert protocol_of(None) == protocol_of(graders.Math()) == protocol_of(asked().grader)
    assert protocol_of(graders.Math()) in (6, "6 without algebra")
    others = {protocol_of(each) for each in (graders.Exact(), graders.JSON(), graders.Choice(), graders.Tests())}
    assert len(others) == 4


@pytest.mark.parametrize(
    ("rows", "right", "wrong"),
    [
        (
            CALLS,
            f"<tool_call>{json.dumps(CALL)}</tool_call>",
            f"<tool_call>{json.dumps(CALL | {'name': 'x'})}</tool_call>",
        ),
        (LETTERS.slice(0, 1), "The answer is (A).", "The answer is (B)."),
        (LABELS.slice(0, 6).filter(pa.array([True, False] * 3)), None, None),
    ],
)
def test_answers_are_graded_by_it(rows: pa.Table, right: str | None, wrong: str | None) -> None:
    settings = Evaluation(nll=False, samples=2, temperature=1.0)
    if right is None:
        right, wrong, settings = "not good at all", "good", settings.model_copy(update={"grader": graders.Exact()})
    said = Said(lambda question, k: right if k == 0 else str(wrong))
    result = evaluate(said, {"q": rows}, settings)
    assert result["q"].rows["verdicts"].to_pylist() == [["right", "wrong"]] * rows.num_rows
    assert summary(result)["accuracy"] == 0.5
    assert summary(result)["grader"]["use"].startswith("curate.graders.")


def test_where_none_fits_only_the_loss_is_said() -> None:
    said = Said()
    result = summary(evaluate(said, {"q": CHAT}, Evaluation(nll=False)))
    assert not said.asked
    assert (result["accuracy"], result["grader"]) == (None, None)
    assert "--grader exact, choice, json, math or tests" in result["loss_only"]
    assert read_set(EvaluationSet(data=CHAT, name="q", grader="exact")).answers == CHAT["completion"].to_pylist()


def test_a_named_grader_that_finds_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"grader Choice finds nothing to grade by in any of its 2 rows; leave it out"):
        read_set(EvaluationSet(data=CHAT, name="q", grader="choice"), Evaluation())


def test_programs_run_with_consent_alone() -> None:
    settings = Evaluation(nll=False)
    said = Said(lambda question, k: "```python\ndef twice(x):\n    return x + x\n```")
    result = summary(evaluate(said, {"q": PROGRAMS}, settings))
    assert result["accuracy"] is None
    assert "--run-programs" in result["loss_only"]
    with pytest.raises(InputError, match="which needs permission; pass --run-programs"):
        evaluate(said, {"q": PROGRAMS}, settings.model_copy(update={"grader": graders.Tests()}))
    assert not said.asked
    if sandbox_layers():
        consented = settings.model_copy(update={"run_programs": True})
        assert summary(evaluate(said, {"q": PROGRAMS}, consented))["accuracy"] == 1.0


class Vowels:
    """As many vowels as the row says; knows no other hook."""

    def grade(self, completion: str, reference: str, row: Any) -> Verdict:
        return Verdict.right if sum(map(completion.count, "aeiou")) == row["vowels"] else Verdict.wrong


def test_a_grader_of_ones_own_sees_the_row_and_nothing_that_was_cut_off() -> None:
    rows = CHAT.append_column("vowels", pa.array([2, 3]))
    said = Said(lambda question, k: "aa..." if k else "aa")
    settings = Evaluation(nll=False, samples=2, temperature=1.0, grader=Vowels())
    result = evaluate(said, {"q": rows}, settings)
    assert result["q"].rows["verdicts"].to_pylist() == [["right", "undecided"], ["wrong", "undecided"]]
    assert summary(result)["protocol"] != summary(evaluate(said, {"q": rows}, Evaluation(nll=False)))["protocol"]


def test_one_of_a_package_needs_leave_and_what_is_none_is_refused() -> None:
    path = f"{__name__}.Vowels"
    with pytest.raises(InputError, match="pass --allow-plugin tests"):
        parse_set(f"{{data: x.parquet, grader: {path}}}", "--data")
    assert isinstance(parse_set(f"{{data: x.parquet, grader: {path}}}", "--data", ("tests",)).grader, Vowels)
    for text in ("chioce", "{use: Exact, nope: 3}", "3"):
        with pytest.raises(InputError, match="grader"):
            parse_set(f"{{data: x.parquet, grader: {text}}}", "--data")


def test_what_is_no_verdict_is_refused() -> None:
    class Yes:
        def grade(self, completion: str, reference: str, row: Any) -> Any:
            return True

    with pytest.raises(InputError, match="grader Yes does not return a Verdict"):
        verdicts(Yes(), ["a"], ["a"], [{}], [False])
