"""Schedules: the arithmetic of a third of an epoch, and its floors on small data."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pydantic
import pytest

from curate.checks import check_component
from curate.errors import InputError
from curate.proxy.proxy import Proxy

MATH_INSTRUCT_ROWS = 248_937


def test_a_third_of_an_epoch_of_the_reference_data() -> None:
    schedule = Proxy().schedule(MATH_INSTRUCT_ROWS)
    assert schedule.steps.tolist() == [519, 1037, 1556, 2074, 2593]
    assert schedule.horizon_steps == round(3 * MATH_INSTRUCT_ROWS / 32) == 23_338
    assert schedule.steps_per_epoch == pytest.approx(7779.28, abs=0.01)
    assert schedule.epochs[-1] == pytest.approx(1 / 3, abs=1e-4)
    assert schedule.steps.dtype == np.int64


@pytest.mark.parametrize("rows", [1, 33, 1000, 7_473, 248_937])
@pytest.mark.parametrize("steps", ["1/3 epoch", "1 epoch", "2.5 epochs", 200])
@pytest.mark.parametrize("checkpoints", [1, 2, 5, 15])
def test_checkpoints_are_evenly_spaced_and_the_last_is_the_end(rows: int, steps: Any, checkpoints: int) -> None:
    schedule = Proxy(steps=steps, checkpoints=checkpoints).schedule(rows)
    gaps = np.diff([0, *schedule.steps])
    assert len(schedule.steps) == checkpoints
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
    assert schedule.horizon_steps >= schedule.steps[-1]
    wanted = 200 if steps == 200 else float(Fraction(steps.split()[0])) * rows / 32
    assert schedule.steps[-1] == (wanted if steps == 200 else max(round(wanted), 100))
    assert np.allclose(schedule.epochs * rows / 32, schedule.steps)


@pytest.mark.parametrize(("model", "floor"), [("EleutherAI/pythia-70m", 100), ("scratch", 300)])
def test_small_data_gets_a_floor_and_a_horizon_three_times_as_long(model: str, floor: int) -> None:
    schedule = Proxy(model=model).schedule(640)  # 20 steps per epoch
    assert schedule.steps[-1] == floor
    assert schedule.horizon_steps == 3 * floor
    assert Proxy(model=model, horizon="100 epochs").schedule(640).horizon_steps == 2000
    assert Proxy(model=model, min_steps=50).schedule(640).steps[-1] == 50
    assert Proxy(model=model, min_steps=50).schedule(640).horizon_steps == 150
    just_above = 32 * 3 * (floor + 1)
    assert Proxy(model=model).schedule(just_above).steps[-1] == floor + 1
    assert Proxy(model=model).schedule(just_above).horizon_steps == 9 * (floor + 1)


@pytest.mark.parametrize("model", ["EleutherAI/pythia-70m", "scratch"])
def test_steps_given_as_a_number_are_taken_as_they_are(model: str) -> None:
    schedule = Proxy(model=model, steps=7, checkpoints=3).schedule(MATH_INSTRUCT_ROWS)
    assert schedule.steps.tolist() == [2, 5, 7]
    assert schedule.horizon_steps == 23_338
    assert Proxy(model=model, steps=7, horizon=50).schedule(10).horizon_steps == 50
    assert Proxy(model=model, steps=70).schedule(10).horizon_steps == 70  # three epochs would be over in one step
    assert Proxy(model=model, steps=7, min_steps=9).schedule(10).steps[-1] == 9  # a floor that was asked for


def test_more_checkpoints_than_steps_is_an_error_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"proxy\.checkpoints = 5 .* 4 steps; set proxy\.checkpoints to at most 4"):
        Proxy(steps=4).schedule(1000)
    assert Proxy(steps=5).schedule(1000).steps.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="at most 100"):
        Proxy(checkpoints=101).schedule(1000)


@pytest.mark.parametrize("name", ["steps", "horizon"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch",
        "1/3",
        "0 epochs",
        "0/3 epoch",
        "1/0 epoch",
        "-1 epoch",
        "1/3 epoc",
        "1e3 epochs",
        "nan epochs",
        "1//3 epoch",
        "1/3.5 epoch",
        "500",
        0,
        -5,
        None,
        2.5,
        "9" * 400 + " epochs",
        "2000000000 epochs",
        10**400,
    ],
)
def test_lengths_that_mean_nothing_are_refused(name: str, text: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match=name):
        Proxy(**{name: text})


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("1/3 epoch", 1 / 3),
        (" 2 epochs ", 2),
        ("0.5 epoch", 0.5),
        ("1epoch", 1),
        ("10/4 epochs", 2.5),
        ("1/010 epoch", 0.1),
    ],
)
def test_lengths_in_epochs(text: str, epochs: float) -> None:
    assert Proxy(steps=text).schedule(3_200_000).steps[-1] == round(epochs * 100_000)
    assert Proxy(steps=5, horizon=text).schedule(3_200_000).horizon_steps == round(epochs * 100_000)


@pytest.mark.parametrize(
    "bad",
    [
        {"checkpoints": 0},
        {"batch_size": 0},
        {"max_length": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"weight_decay": float("inf")},
        {"template": "other"},
        {"min_steps": 0},
        {"warmup_ratio": 1.0},
        {"precision": "int8"},
        {"modle": "x"},
    ],
)
def test_other_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(bad))):
        Proxy(**bad)


def test_learning_rate_depends_on_whether_the_proxy_knows_anything() -> None:
    assert Proxy().peak_learning_rate == 2e-5
    assert Proxy(model="scratch").peak_learning_rate == 1e-3
    assert Proxy(model="scratch", learning_rate=5e-4).peak_learning_rate == 5e-4


def test_foreign_code_is_not_trusted_unless_asked_for() -> None:
    assert Proxy().trust_remote_code is False


@pytest.mark.parametrize("changes", [{}, {"model": "scratch", "steps": 12, "template": "plain", "min_steps": 3}])
def test_the_component_contract(changes: dict[str, Any]) -> None:
    check_component(Proxy(**changes))
