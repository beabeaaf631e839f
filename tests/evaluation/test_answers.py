"""Answers: how they are drawn, cut off, refused and graded."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.console.progress import Progress
from curate.errors import DataWarning, InputError
from curate.evaluation.answers import graded
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from curate.generators.requests import Completion
from curate.generators.vllm import VLLMServer
from curate.verify import run_program
from tests.fixtures.evaluation import LOCAL, QUESTIONS, Said, summary, table
from tests.fixtures.server import FakeServer, Fault


def test_letters_sets_and_formulas_are_graded() -> None:
    pairs = [("The answer is (B).", "B"), ("#### 4, 3", "3, 4"), (r"\boxed{\frac12}", "0.5"), ("answer3", "answer3")]
    found = graded([Completion(text, "stop") for text, _ in pairs], [answer for _, answer in pairs])
    assert [each.verdict.value for each in found] == ["right"] * 4


def test_the_last_number_of_a_text_that_was_cut_off_is_no_answer() -> None:
    texts = ["we add 12 and get 42", "#### 42\nand now 13"]
    for reason, verdicts in (("stop", ["right", "right"]), ("length", ["undecided", "right"])):
        found = graded([Completion(text, reason) for text in texts], ["42", "42"])  # type: ignore[arg-type]
        assert [each.verdict.value for each in found] == verdicts
    result = evaluate(Said(lambda prompt, k: "so 42 ..."), {"q": table()}, Evaluation(nll=False))
    assert summary(result)["cut_off"] == 1
    assert summary(result)["accuracy"] == 0


def test_a_row_without_a_final_answer_is_not_asked() -> None:
    rows = table(answer=["talk of this and that and more", "#### 7", "#### 4"])
    said = Said()
    result = evaluate(said, {"q": rows}, Evaluation(nll=False))
    assert len(said.asked) == 2
    assert result["q"].rows["accuracy"].to_pylist() == [None, 0.0, 0.0]
    assert summary(result)["graded"] == 2


def test_answers_of_another_precision_are_drawn_again(folder: Path, tmp_path: Path) -> None:
    found = {
        precision: evaluate(
            folder, {"q": table()}, Evaluation(nll=False, **{**LOCAL, "precision": precision}), cache=tmp_path
        )["q"].summary["generator"]["identity"]
        for precision in ("float32", "bfloat16")
    }
    assert found["float32"].removesuffix("float32") == found["bfloat16"].removesuffix("bfloat16")
    with sqlite3.connect(tmp_path / "requests" / "requests.sqlite") as connection:
        models = connection.execute("SELECT model, count(*) FROM completions GROUP BY model").fetchall()
    assert {model for model, _ in models} == set(found.values())
    assert len({number for _, number in models}) == 1


def test_without_math_verify_expressions_are_undecided_and_that_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(answer=["#### 42", "#### 42", r"\boxed{x+1}"])
    said = Said(lambda question, k: r"\boxed{1+x}")
    whole = evaluate(said, {"q": rows}, Evaluation(nll=False), cache=tmp_path / "a")
    assert "right" in str(whole["q"].rows["verdicts"].to_pylist()[2])
    monkeypatch.setattr("curate.graders.math.algebra_is_here", lambda: False)
    with pytest.warns(DataWarning, match=r"pip install 'curate-lm\[math\]'") as warned, pytest.raises(RuntimeError):
        evaluate(Said(fails_after=0), {"q": rows}, Evaluation(nll=False), cache=tmp_path / "b")
    assert len(warned) == 1
    with pytest.warns(DataWarning):
        found = evaluate(said, {"q": rows}, Evaluation(nll=False), cache=tmp_path / "a")
    assert found["q"].rows["verdicts"].to_pylist()[2] == ["undecided"]
    assert found["q"].summary["protocol"] != whole["q"].summary["protocol"]


def test_a_question_that_does_not_fit_is_refused_and_counted(folder: Path) -> None:
    rows = table(question=["What? " * 400, *QUESTIONS["question"][1:]])
    with pytest.warns(DataWarning, match="1 of 3 questions were refused and count as not right"):
        found = evaluate(folder, {"q": rows}, Evaluation(nll=False, **LOCAL), device="cpu")
    assert summary(found)["refused"] == 1
    assert found["q"].rows["accuracy"].to_pylist()[0] == 0
    verdicts = found["q"].rows["verdicts"].to_pylist()
    assert verdicts[0] == ["refused"]
    assert "refused" not in [*verdicts[1], *verdicts[2]]


def test_answers_that_the_context_cuts_short_are_counted_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Evaluation(nll=False, **{**LOCAL, "max_tokens": 5000})
    found = evaluate(folder, {"q": table()}, settings, device="cpu", progress=Progress("lines"))
    assert (summary(found)["capped"], summary(found)["refused"]) == (3, 0)
    ended = round(summary(found)["cut_off"] * 3)
    assert ended > 0
    assert f"{ended} of 3 answers ended with the model's context, after " in capsys.readouterr().err


def test_answers_that_were_not_drawn_as_asked_for_are_counted_and_told(tmp_path: Path) -> None:
    def fault(body: dict[str, Any], _: int) -> Fault | None:
        refusal = Fault("status", 400, "Unsupported parameter: 'temperature' is not supported with this model.")
        return refusal if "temperature" in body else None

    with FakeServer(lambda body: "#### 42", fault, owner="somebody") as server:
        generator = VLLMServer(model=server.model, url=server.url)
        for _ in range(2):  # from the server, and from the store
            with pytest.warns(DataWarning, match=r"without temperature=0 \(3 of them\); they are random draws"):
                found = evaluate(generator, {"q": table()}, Evaluation(nll=False), cache=tmp_path)
            assert summary(found)["refused_parameters"] == {"temperature=0": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
def test_the_layers_around_programs_are_recorded(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"A function f that returns {k}.", "completion": "-", "tests": f"assert f() == {k}"} for k in (1, 2)
    ]
    program = "```python\ndef f(): return 1\n```"
    with FakeServer(lambda body: program) as server:
        generator = VLLMServer(model=server.model, url=server.url)
        settings = Evaluation(nll=False, run_programs=True)
        found = evaluate(generator, {"programs": rows, "q": table()}, settings, cache=tmp_path)
    assert found["programs"].rows["accuracy"].to_pylist() == [1, 0]
    assert found["programs"].summary["sandbox"] == list(run_program("").layers) != []
    assert found["q"].summary["sandbox"] is None


def test_a_server_gets_the_tools_of_a_chat_and_its_calls_are_graded(tmp_path: Path) -> None:
    """Two rows: one call is right, the other is another; the row without tools gets none."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "tool_calls": [call]}], "tools": tools}
        for text, tools in (("one", [tool]), ("two", [tool]), ("three", None))
    ]

    def answer(body: dict[str, Any], _: int) -> Fault:
        value = 1 if "one" in str(body) else 2
        said = {"id": "z", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": value})}}
        message = {"role": "assistant", "content": None, "tool_calls": [said]}
        choice = {"message": message, "finish_reason": "tool_calls"}
        return Fault("raw", message=json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}))

    settings = Evaluation(nll=False, style="chat", max_tokens=50)
    with FakeServer(faults=answer) as server:
        generator = VLLMServer(model=server.model, url=server.url)
        found = evaluate(generator, {"q": rows}, settings, cache=tmp_path)["q"]
        sent = {body["messages"][0]["content"]: body.get("tools") for body in server.requests}
    assert sent == {"one": [tool], "two": [tool], "three": None}
    assert found.rows["accuracy"].to_pylist() == [1.0, 0.0, 0.0]

    def refuses(body: dict[str, Any], _: int) -> Fault | None:
        words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        return Fault("status", status=400, message=words) if "tools" in body else None

    with (
        FakeServer(faults=refuses) as server,
        pytest.raises(
            InputError,
            match=r"does not take the tools of a chat .* or leave them out with {data: FILE, columns: 'tools='}",
        ),
    ):
        evaluate(VLLMServer(model=server.model, url=server.url), {"q": rows}, settings)
    with FakeServer(faults=refuses) as server:
        without = {"q": {"data": rows, "columns": "tools="}}
        assert evaluate(VLLMServer(model=server.model, url=server.url), without, settings)["q"].summary["accuracy"] == 0
