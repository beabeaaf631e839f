"""Forecasts: what may be looked at, how rules are chosen, and how they are judged."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.when.forecast import CLOCKS, Rule, ShareRule, Unit, choose, helps, judged, of_choice, units_of
from curate.difficulty.exposures import read_curve

YES = Unit("symbols", "a", 1, "small", 0.1, None, dict.fromkeys(CLOCKS, -0.2), -0.3, 0.05)
NO = replace(YES, name="b", foretold=dict.fromkeys(CLOCKS, 0.1), nats=0.2, exact=-0.02)
WRONG = replace(YES, name="c", wrong=0.5, nats=0.4, exact=0.02)


def test_a_rule_says_yes_where_a_fall_is_foretold_and_rows_are_trusted() -> None:
    rule = Rule(1.0, 0.03, 0.2)
    assert [rule(unit) for unit in (YES, NO, WRONG)] == [True, False, False]
    assert Rule(1.0, 0.03, 1.0)(WRONG)
    assert not Rule(1.0, 0.2, 1.0)(YES)
    assert [ShareRule(0.1)(YES), ShareRule(0.05)(YES)] == [True, False]


def test_the_rule_that_gains_most_is_chosen() -> None:
    chosen = choose([YES, NO, WRONG])["rule"]
    assert chosen["most_wrong"] < 0.5
    assert chosen["threshold"] < 0.2


def test_figures_of_a_rule_that_is_right_everywhere_and_of_the_baselines() -> None:
    frozen = {"rule": {"clock": 1.0, "threshold": 0.03, "most_wrong": 0.2}, "share_rule": {"most": 0.5}}
    rows = {(row["outcome"], row["rule"]): row for row in judged([YES, NO, WRONG], frozen)}
    nats = rows["nats", "frozen rule"]
    assert [nats[name][0] for name in ("right", "sign", "precision", "recall")] == [1, 1, 1, 1]
    assert nats["value"][0] == pytest.approx(0.7 ** (1 / 3) - 1, abs=1e-4)
    assert rows["nats", "always yes"]["value"][0] == pytest.approx((0.7 * 1.2 * 1.4) ** (1 / 3) - 1, abs=1e-4)
    assert rows["nats", "always no"]["precision"] == [None, None, None]
    assert rows["nats", "always no"]["value"][0] == 0
    # Of exact answers the row that was not trusted would have gained.
    assert rows["exact", "frozen rule"]["recall"][0] == 0.5
    low, high = nats["value"][1:]
    assert low <= nats["value"][0] <= high


def test_helping_is_stated_apart_for_nats_and_exact_answers() -> None:
    assert helps(replace(YES, nats=-0.03), "nats")
    assert not helps(replace(YES, nats=-0.02), "nats")
    assert not helps(replace(YES, exact=0.005), "exact")


def test_rules_are_chosen_on_one_family_and_half_of_another() -> None:
    names = [f"setting {k}" for k in range(200)]
    assert all(of_choice(replace(YES, name=name)) for name in names)
    assert not any(of_choice(replace(YES, family="gym", name=name)) for name in names)
    assert 60 < sum(of_choice(replace(YES, family="text", name=name)) for name in names) < 140


def _block(seed: int) -> dict[str, Any]:
    run = {"steps": [10], "questions": {"a": 10}, "right": {"a": [5]}}
    return {
        "name": "x",
        "seed": seed,
        "setting": {"family": "gym", "unit": 10, "budgets": [1], "proxy": "same"},
        "mixture": {"a": 1.0},
        "hard_share": 0.25,
        "curves": {"steps": [2, 4, 8, 16, 32], "hard": [8.0, 4.0, 2.0, 1.0, 0.5], "easy": [0.1] * 5},
        "reducible": {"wrong_share": 0.125},
        "arms": {"original": run | {"nats": {"a": [1.0]}}, "hard x2": run | {"nats": {"a": [0.5]}}},
    }


def test_units_are_foretold_from_the_curves_of_the_clusters() -> None:
    (unit,) = units_of([_block(0), json.loads(json.dumps(_block(1)))])
    hard = [8.0, 4.0, 2.0, 1.0, 0.5]
    now, then = (read_curve([2, 4, 8, 16, 32], hard, t) for t in (10, 10 * 2 / 1.25))
    assert then == pytest.approx(1.0)
    assert unit.foretold[1.0] == pytest.approx((0.25 * then + 0.075) / (0.25 * now + 0.075) - 1)
    assert unit.wrong == 0.125
    assert unit.nats == pytest.approx(-0.5)
    assert not math.isnan(unit.exact)


def test_a_setting_without_hard_rows_has_no_unit() -> None:
    block = _block(0)
    block["curves"]["hard"] = None
    assert units_of([block]) == []
