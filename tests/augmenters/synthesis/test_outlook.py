"""What the first proposals say, and when to stop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from augmenters.synthesis.outlook import Outlook
from augmenters.synthesis.variants import KEPT
from curate.verify import Verdict


def group(count: int, *, kept: int = 0, right: int = 0, drawn: int = 8, problem: bool = True) -> Any:
    variants = [
        SimpleNamespace(
            proposal="text",
            problem="problem" if problem else None,
            drawn=[None] * drawn if problem else [],
            outcome=KEPT if number < kept else "too hard",
            count=lambda verdict: right if verdict == Verdict.right else 0,
        )
        for number in range(count)
    ]
    return SimpleNamespace(variants=variants)


def test_it_speaks_once_after_twenty_proposals() -> None:
    outlook = Outlook()
    assert [outlook.count(group(5)) is None for _ in range(3)] == [True] * 3
    said = outlook.count(group(5)) or ""
    assert said.startswith("after 20 proposals: 0 kept")
    assert "fewer than a tenth of its own problems (0 of 160" in said
    assert outlook.count(group(50)) is None


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (group(20, kept=5, right=3), None),
        (group(20, kept=0, right=3), "--preview 20"),
        (group(20, right=0), "too weak"),
        (group(20, problem=False), "instruction-tuned"),
    ],
)
def test_the_advice_fits_the_fault(made: Any, says: str | None) -> None:
    outlook = Outlook()
    outlook.count(made)
    advice = outlook.advice()
    assert advice is None if says is None else says in (advice or "")


def test_a_run_is_hopeless_when_chance_can_hardly_be_the_reason() -> None:
    outlook = Outlook()
    outlook.count(group(70))
    assert not outlook.hopeless(0.05)
    outlook.count(group(10))
    assert outlook.hopeless(0.05)
    assert not outlook.hopeless(0.01)
    assert not outlook.hopeless(0.0)
    outlook.count(group(4, kept=4))
    assert not outlook.hopeless(0.05)
    assert "--least-yield 0" in outlook.why_stopped(0.05)
