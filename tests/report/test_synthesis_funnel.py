"""The record of synthesis in numbers: the funnel adds up, the interval is Wilson's, advice names the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.mixture.plan import NOT_HARD
from curate.report.reasons import REASONS, kind_of, outcome_of
from curate.report.synthesis_funnel import (
    advice,
    lost_problems,
    lost_rows,
    records,
    rescored,
    steps,
    wilson,
)
from tests.fixtures.synthesis import record_of


@pytest.fixture(autouse=True)
def _without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes that every page holds and no test here looks at."""
    monkeypatch.setattr("curate.report.run_page._plotly_source", lambda: "")


@pytest.mark.parametrize("kind", ["made", "only_hard"])
def test_the_funnel_narrows_and_adds_up(kind: str, request: pytest.FixtureRequest) -> None:
    record = record_of(request.getfixturevalue(kind))
    chosen, started, asked, *others = steps(record)
    assert chosen.count == started.count + sum(loss.count for loss in lost_rows(record)) == 80
    assert asked.factor == "3 per row"
    counts = [asked.count, *(step.count for step in others)]
    assert counts == sorted(counts, reverse=True)
    for before, step in zip([asked, *others], others, strict=False):
        assert step.of_before == pytest.approx(step.count / before.count)
    kept = next(step.count for step in others if step.name == "kept")
    assert asked.count == kept + sum(loss.count for loss in lost_problems(record))
    assert others[-1].hard
    assert others[-1].count == record["rescored"]["hard"]
    assert all(0 <= step.width <= 1 for step in (chosen, started, asked, *others))


def test_where_only_hard_ones_are_kept_the_measured_come_first(made: Path, only_hard: Path) -> None:
    assert [step.name for step in steps(record_of(made))][-2:] == ["kept", "hard again"]
    assert [step.name for step in steps(record_of(only_hard))][-2:] == ["new and measured", "kept"]
    assert NOT_HARD in {loss.key for loss in lost_problems(record_of(only_hard))}


def test_reasons_come_most_frequent_first_in_words(made: Path) -> None:
    found = lost_problems(record_of(made))
    assert [loss.count for loss in found] == sorted((loss.count for loss in found), reverse=True)
    assert all(loss.reason.meaning for loss in found)
    names = {loss.key: loss.reason.name for loss in found}
    assert names["evaluation 13-gram"] == "Found in an evaluation set (13-gram)"


def test_unknown_reasons_are_shown_as_they_are() -> None:
    assert kind_of("some_new reason", REASONS).name == "Some new reason"
    assert kind_of("near-duplicate of source", REASONS).name == "Too similar to a row of the input"
    assert outcome_of("evaluation exact (gsm8k, 7 (b))") == ("evaluation exact", "gsm8k, 7 (b)")
    assert outcome_of('evaluation exact: gsm8k, 7, "a (b)"') == ("evaluation exact", 'gsm8k, 7, "a (b)"')
    assert outcome_of("kept") == ("kept", "")
    several = {"outcomes": {"evaluation exact: gsm8k, 7": 1, "evaluation exact (gsm8k, 9)": 2, "kept": 1}}
    assert [(loss.key, loss.count) for loss in lost_problems(several)] == [("evaluation exact", 3)]


def test_the_interval_is_that_of_wilson() -> None:
    """Zeros of the score statistic: at both ends the observed share is 1.96 standard errors away."""
    for hits, n in ((36, 81), (1, 7), (50, 100), (999, 1000)):
        for end in wilson(hits, n):
            assert abs(hits / n - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), rel=1e-5)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


@pytest.mark.parametrize("found", [None, {}, {"measured": 0, "hard": 0}, {"measured": 2, "hard": 3}, {"measured": "x"}])
def test_no_share_is_invented(found: Any) -> None:
    assert rescored({"rescored": found}) is None


def outcome_record(funnel: list[int], **outcomes: int) -> dict[str, Any]:
    names = ["proposals asked for", "proposals written", "with a problem", "past checks and gate", "kept by the band"]
    pairs = [[name, number] for name, number in zip([*names, "kept"], funnel, strict=True)]
    return {"funnel": pairs, "outcomes": {key.replace("_", " "): value for key, value in outcomes.items()}}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (outcome_record([100, 100, 40, 40, 30, 30], no_problem_in_the_proposal=60, kept=30), "instruction-tuned"),
        (outcome_record([100, 100, 60, 60, 30, 30], proposal_cut_off=40, kept=30), "max_tokens"),
        (outcome_record([100, 100, 99, 99, 20, 20], too_hard=79, kept=20), "stronger"),
        (outcome_record([100, 100, 99, 99, 20, 20], too_easy=79, kept=20), "upper end of the band"),
        (outcome_record([100, 100, 99, 99, 60, 60], cannot_be_graded=39, kept=60), "numbers or formulas"),
        (outcome_record([100, 100, 99, 4, 4, 4], answer_in_the_problem=95, kept=4), "say what to change"),
        (outcome_record([9, 8, 7, 6, 5, 5], kept=5) | {"budget_reached": True, "budget": 5}, "Raise the budget"),
        (outcome_record([100, 90, 80, 70, 50, 50], kept=50), None),
        (outcome_record([0, 0, 0, 0, 0, 0]), None),
    ],
)
def test_advice_names_the_likely_cause(record: dict[str, Any], says: str | None) -> None:
    said = advice(record)
    assert len(said) == (0 if says is None else 1)
    assert (says or "") in " ".join(remedy for _, remedy in said)


@pytest.mark.parametrize("value", ["x", [], [None], [{}], [{"rows": 3}], {"a": 1}])
def test_what_is_no_record_of_synthesis_is_passed_over(value: Any) -> None:
    assert records({"synthesis": value}) == []
