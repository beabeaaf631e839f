"""An evaluation: what is never done twice, what its protocol is, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import read_evaluations
from tests.fixtures.evaluation import LOCAL, QUESTIONS, Said, summary, table, write_run

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
        with pytest.raises(InputError, match="holds an evaluation with other settings; give this one another name"):
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


def test_what_cannot_be_evaluated_says_what_to_give(tmp_path: Path, trained_on: Path) -> None:
    settings = Evaluation(generate=False)
    with pytest.raises(InputError, match="its losses are not available"):
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
