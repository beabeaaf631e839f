"""Warnings of a finished synthesis: one for each thing that went wrong, with its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from augmenters.synthesis.run_warnings import run_warnings


def record(**changes: Any) -> dict[str, Any]:
    steps = {"proposals written": 100, "past checks and gate": 80, "kept": 20}
    rest = {"outcomes": {"kept": 20}, "rescored": {}, "budget": 9}
    return {"funnel": [[*each] for each in steps.items()], **rest, **changes}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"outcomes": {"no problem in the proposal": 60}}, ["proposals_without_problem"]),
        ({"outcomes": {"too hard": 70}}, ["problems_too_hard"]),
        ({"outcomes": {"too easy": 70}}, ["problems_too_easy"]),
        ({"outcomes": {"cannot be graded": 20}}, ["answers_not_graded"]),
        ({"given_up": True}, ["yield_hopeless"]),
        ({"budget_reached": True}, ["budget_reached"]),
        ({"refused_parameters": {"temperature=0": 3}}, ["sampling_refused"]),
    ],
)
def test_each_fault_has_its_warning(changes: dict[str, Any], codes: list[str]) -> None:
    found = run_warnings(record(**changes))
    assert [warning.code for warning in found] == codes
    assert all(warning.remedy for warning in found)
