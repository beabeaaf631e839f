"""An evaluation: how answers count, and what is never done twice."""

from __future__ import annotations

import json
import math
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.checks import check_component
from curate.console.progress import Progress
from curate.errors import DataWarning, InputError
from curate.evaluation import Evaluation, EvaluationSet, evaluate, read_evaluations
from curate.evaluation.answers import graded
from curate.generators.requests import Completion, Queue, Request
from tests.fixtures.evaluation import LOCAL, QUESTIONS, summary, table, write_run


class Said:
    """A generator that says what it is told, by question; counts what it is asked, and may fail on the way."""

    def __init__(self, answers: Callable[[str, int], str] = lambda question, k: "#### 42", *, fails_after: int = 10**9):
        self.answers, self.left = answers, fails_after
        self.asked: list[Request] = []

    def identity(self) -> str:
        return "said"

    def serve(self, queue: Queue) -> None:
        while batch := queue.take(2):
            for request in batch:
                if not self.left:
                    raise RuntimeError("killed")
                self.left -= 1
                self.asked.append(request)
                prompt = str(request.prompt)
                text = self.answers(prompt, request.index)
                reason = "length" if text.endswith("...") else "stop"
                queue.done(request, Completion(text, reason, len(prompt), len(text)))  # type: ignore[arg-type]


# -- how answers count ------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_right_samples_and_undecided_is_not_right() -> None:
    said = {
        "12 plus": ["#### 42", "The answer is 42.0", "#### 41", "I wonder about all of it"],
        "pears": ["#### 7"] * 4,
    }

    def answers(prompt: str, k: int) -> str:
        return next((texts[k] for key, texts in said.items() if key in prompt), "no idea")

    result = evaluate(
        Said(answers), EvaluationSet(data=table(), name="q"), Evaluation(samples=4, temperature=0.7, nll=False)
    )["q"]
    assert result.rows["accuracy"].to_pylist() == [0.5, 1.0, 0.0]
    assert result.rows["verdicts"].to_pylist()[0] == ["right", "right", "wrong", "undecided"]
    assert result.rows["extracted"].to_pylist()[0] == ["42", "42.0", "41", None]
    assert result.rows["nll"].to_pylist() == [None] * 3
    found = result.summary
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["undecided"] == pytest.approx(5 / 12)
    assert found["nll"] is found["nll_rows"] is None
    assert [(each["level"], each["rows"], each["accuracy"]) for each in found["levels"]] == [
        ("1", 1, 0.5),
        ("2", 1, 1.0),
        ("10", 1, 0.0),
    ]
    assert [(each["source"], each["rows"], each["accuracy"]) for each in found["sources"]] == [
        ("a", 2, 0.25),
        ("b", 1, 1.0),
    ]


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


# -- what is never done twice -----------------------------------------------------------------------------------------


def test_a_killed_evaluation_asks_only_for_what_is_not_there(tmp_path: Path) -> None:
    settings = Evaluation(nll=False, samples=3, temperature=1.0)
    killed = Said(fails_after=5)
    with pytest.raises(RuntimeError, match="killed"):
        evaluate(killed, {"q": table()}, settings, out=tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out" / "q").exists()
    again = Said()
    evaluate(again, {"q": table()}, settings, out=tmp_path / "out", cache=tmp_path / "cache")
    assert len(again.asked) == 9 - 5
    assert not set(again.asked) & set(killed.asked)


def test_a_result_that_is_there_is_not_computed_again_and_another_protocol_does_not_replace_it(tmp_path: Path) -> None:
    settings = Evaluation(nll=False)
    first = Said()
    result = evaluate(first, {"q": table()}, settings, out=tmp_path, cache=tmp_path / "one")
    again = Said()
    found = evaluate(again, {"q": table()}, settings, out=tmp_path, cache=tmp_path / "two")
    assert (len(first.asked), len(again.asked)) == (3, 0)
    assert found["q"].rows.equals(result["q"].rows)
    assert summary(found) == summary(result)
    assert read_evaluations(tmp_path)["q"].rows.equals(result["q"].rows)
    others: list[tuple[Any, Evaluation]] = [
        (table(level=["9"] * 3, question=["other", *QUESTIONS["question"][1:]]), settings),
        (table(), settings.model_copy(update={"max_tokens": 9})),
        (table(), settings.model_copy(update={"style": "template"})),
    ]
    for rows, changed in others:
        with pytest.raises(InputError, match="holds an evaluation asked otherwise; give this one another name"):
            evaluate(again, {"q": rows}, changed, out=tmp_path)
    replaced = evaluate(again, {"q": table()}, others[1][1], out=tmp_path, fresh=True)
    assert summary(read_evaluations(tmp_path)) == summary(replaced) != summary(result)


def test_the_protocol_is_what_is_asked_and_not_how_fast() -> None:
    base = Evaluation(nll=False)

    def protocol(**changes: Any) -> str:
        return str(summary(evaluate(Said(), {"q": table()}, base.model_copy(update=changes)))["protocol"])

    same: list[dict[str, Any]] = [{"batch_size": 3}, {"precision": "float32"}, {"seed": 5}, {"vllm": "elsewhere"}]
    other: list[dict[str, Any]] = [{"max_tokens": 4}, {"style": "chat"}, {"stop": ("x",)}, {"temperature": 0.5}]
    assert {protocol(**changes) for changes in same} == {protocol()}
    assert len({protocol(), *(protocol(**changes) for changes in other)}) == 1 + len(other)
    assert protocol(temperature=0.5, seed=1) != protocol(temperature=0.5)


def test_parts_that_are_asked_for_one_after_the_other_come_together(folder: Path, tmp_path: Path) -> None:
    both = Evaluation(**LOCAL)
    parts = [both.model_copy(update={"generate": False}), both.model_copy(update={"nll": False}), both]
    found = [
        summary(evaluate(folder, {"q": table()}, each, out=tmp_path / "parts", cache=tmp_path / "a", device="cpu"))
        for each in parts
    ]
    whole = evaluate(folder, {"q": table()}, both, out=tmp_path / "whole", cache=tmp_path / "b", device="cpu")
    assert found[0]["accuracy"] is None
    assert found[1] == found[2]
    free = ("seconds", "settings")
    assert {k: v for k, v in found[2].items() if k not in free} == {
        k: v for k, v in summary(whole).items() if k not in free
    }
    assert read_evaluations(tmp_path / "parts")["q"].rows.equals(whole["q"].rows)


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
    monkeypatch.setattr("curate.evaluation.answers.algebra_is_here", lambda: False)
    with pytest.warns(DataWarning, match=r"pip install 'curate-lm\[math\]'") as warned, pytest.raises(RuntimeError):
        evaluate(Said(fails_after=0), {"q": rows}, Evaluation(nll=False), cache=tmp_path / "b")
    assert len(warned) == 1
    with pytest.warns(DataWarning):
        found = evaluate(said, {"q": rows}, Evaluation(nll=False), cache=tmp_path / "a")
    assert found["q"].rows["verdicts"].to_pylist()[2] == ["undecided"]
    assert found["q"].summary["protocol"] != whole["q"].summary["protocol"]


# -- bad input --------------------------------------------------------------------------------------------------------


def test_components_keep_the_contract() -> None:
    check_component(Evaluation())
    check_component(EvaluationSet(data="x.parquet"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generate": False, "nll": False}, "nothing to evaluate"),
        ({"samples": 2}, "temperature 0 are all the same"),
        ({"shots": 2}, "2 shots come from nowhere"),
        ({"shots_from": EvaluationSet(data="x")}, "no number of shots"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**given)


def test_what_cannot_be_evaluated_says_what_to_give(tmp_path: Path, trained_on: Path) -> None:
    settings = Evaluation(generate=False)
    with pytest.raises(InputError, match="its losses are not to be had"):
        evaluate(Said(), {"q": table()}, settings)
    with pytest.raises(InputError, match=r"give a run folder, a model folder, a hub id or a generator"):
        evaluate(3, {"q": table()}, settings)
    with pytest.raises(InputError, match="two evaluation sets are named q"):
        evaluate(Said(), [EvaluationSet(data=table(), name="q")] * 2)
    with pytest.raises(InputError, match="needs a name"):
        evaluate(Said(), [EvaluationSet(data=table())])
    with pytest.raises(InputError, match="there is no evaluation set"):
        evaluate(Said(), [])
    with pytest.raises(InputError, match="holds no evaluation; run `curate evaluate"):
        read_evaluations(tmp_path)
    run = write_run(tmp_path / "run", data=trained_on)
    place = run / "evaluation" / "q"
    place.mkdir(parents=True)
    (place / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary.json is damaged .*; remove .* and evaluate again"):
        evaluate(run, {"q": table()}, settings, device="cpu")
    (run / "run.json").unlink()
    with pytest.raises(InputError):
        evaluate(run, {"q": table()}, settings, device="cpu")


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


def test_numbers_of_a_summary_are_json_and_nothing_is_invented(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(folder, {"q": table()}, Evaluation(**LOCAL), out=tmp_path, device="cpu")
    found = json.loads((tmp_path / "q" / "summary.json").read_text())
    needed = {"kind", "name", "data", "protocol", "settings", "rows", "accuracy", "undecided", "nll", "nll_rows"}
    assert needed | {"cut_off", "generator", "tokens", "seconds", "versions"} <= set(found)
    assert set(found["tokens"]) == {"prompt", "generated", "scored"}
    assert len(found["protocol"]) == 32
    assert all(math.isfinite(found[name]) for name in ("nll", "nll_rows", "accuracy", "undecided", "cut_off"))
