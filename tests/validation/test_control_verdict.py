"""What the positive control says, by intervals and, with few seeds, by estimates."""

from typing import Any

import pytest

from curate.validation.control_verdict import verdict


def _rows(baseline: str, nats: float, answers: float, found: str = "better", seeds: int = 5) -> list[dict[str, Any]]:
    shared = {"arm": "hard", "baseline": baseline, "seeds": seeds, "verdict": found, "relative": nats / 0.2}
    shared |= {"baseline_mean": 0.5, "arm_mean": 0.6}
    ends = {"low": -0.5, "high": 0.5}
    return [
        {**shared, **ends, "set": "mixture", "metric": "nll", "difference": nats},
        {**shared, **ends, "set": "balanced", "metric": "accuracy", "difference": answers},
    ]


def test_it_came_out_only_where_hard_beats_original_and_random() -> None:
    won = {name: _rows(name, -0.1, 0.2) for name in ("original", "random")}
    assert verdict(won)["came_out"]
    assert verdict(won)["sentence"].startswith("The control passed")
    for name in won:
        lost = verdict({**won, name: _rows(name, -0.1, 0.2, "no evidence")})
        assert not lost["came_out"]
        assert lost["sentence"].startswith(f"The control failed: nats per token on the mixture, hard against {name}")


@pytest.mark.parametrize(
    ("nats", "answers", "came_out"), [(-0.1, 0.2, True), (0.0, 0.2, True), (0.01, 0.2, False), (-0.1, 0.0, False)]
)
def test_two_seeds_are_judged_by_estimates(nats: float, answers: float, *, came_out: bool) -> None:
    rows = {name: _rows(name, nats, answers, "no evidence", seeds=2) for name in ("original", "random")}
    assert verdict(rows)["came_out"] is came_out
    assert verdict(rows)["by"] == "estimates"
