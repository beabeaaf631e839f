"""Weights that are given with the rows have mean one over the tokens that are trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.reweighters import ADAPT, GivenWeights
from curate.training.reweighting import BatchOutputs, OptimizerBatch
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import TOKENS, asked, flat, rows_of, run, training

# -- given weights -----------------------------------------------------------------------------------------------


def test_given_weights_have_mean_one_over_the_tokens_that_are_trained_on() -> None:
    values = np.random.default_rng(0).uniform(0, 3, 41).tolist()
    values[3] = None  # an invalid row may have none
    live = GivenWeights(column="w").begin(training(tiny_model(), rows=rows_of(w=values)))
    counts, valid = TOKENS.completion_tokens, TOKENS.valid
    weights = asked(live, [0.0] * 41, rows=list(range(41))).numpy()
    assert (weights[valid] * counts[valid]).sum() == pytest.approx(counts[valid].sum(), rel=1e-5)
    assert weights[5] / weights[6] == pytest.approx(values[5] / values[6], rel=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "reads column 'weight', which the data does not have; its columns: w"),
        ([1.0] * 5 + [-1.0] + [1.0] * 35, "row 5 in column 'weight' is -1.0"),
        ([1.0] * 5 + [None] + [1.0] * 35, "row 5 in column 'weight' is None"),
        ([0] * 41, "are 0, so nothing would be learned"),
        (["x"] * 41, "not numbers"),
    ],
)
def test_given_weights_that_cannot_serve(values: Any, message: str) -> None:
    rows = rows_of(w=[1.0] * 41) if values is None else rows_of(weight=values)
    with pytest.raises(InputError, match=message):
        GivenWeights().begin(training(tiny_model(), rows=rows))


@pytest.mark.parametrize(("until", "weighted"), [(None, 6), (0.5, 3), (0.1, 1), (1.0, 6)])
def test_weights_hold_in_the_first_part_of_the_steps(until: float | None, weighted: int) -> None:
    values = np.random.default_rng(0).uniform(0, 3, 41).tolist()
    start = dataclasses.replace(training(tiny_model(), rows=rows_of(w=values)), steps=lambda: 6)
    live = GivenWeights(column="w", until=until).begin(start)
    rows = [5, 6, 7, 8]
    always = asked(GivenWeights(column="w").begin(start), [0.0] * 4, rows=rows)
    for step in range(6):
        expected = always if step < weighted else torch.ones(4)
        assert torch.equal(asked(live, [0.0] * 4, step, rows), expected)


def test_the_own_loop_says_how_many_steps_there_are() -> None:
    values = np.random.default_rng(0).uniform(0, 3, 41).tolist()
    halves = {}
    for until in (None, 0.5):
        reweighter = GivenWeights(column="w", until=until)
        last = run(tiny_model(), reweighter, rows=rows_of(w=values), steps=4)
        halves[until] = (last.losses, flat(last.model).clone())
    assert halves[None][0][:3] == halves[0.5][0][:3]  # the third loss is before the third update
    assert not torch.equal(halves[None][1], halves[0.5][1])


def test_averages_of_rows_stay_so_after_the_first_part() -> None:
    live = GivenWeights(column="w", averages="rows", until=0.5)
    start = dataclasses.replace(training(tiny_model(), rows=rows_of(w=[2.0] * 41)), steps=lambda: 2)
    batch = OptimizerBatch(1, torch.tensor([1, 3]), torch.tensor([5, 6]))
    weights = live.begin(start).weights(batch, BatchOutputs(torch.zeros(2)))
    assert weights.tolist() == pytest.approx([2.0, 2 / 3])


def test_a_loop_without_an_end_has_no_share_of_its_steps() -> None:
    start = training(tiny_model(), rows=rows_of(w=[1.0] * 41))
    with pytest.raises(InputError, match="this loop does not say how many"):
        GivenWeights(column="w", until=0.5).begin(start)


def test_weights_beside_another_reweighter_are_multiplied_and_its_hooks_are_kept() -> None:
    values = np.random.default_rng(0).uniform(0, 3, 41).tolist()
    start = dataclasses.replace(training(tiny_model(), rows=rows_of(weight=values)), steps=lambda: 6)
    other = ADAPT(anchors="a")
    both = GivenWeights(until=0.5, beside=other).begin(start)
    alone, given = other.begin(start), GivenWeights(until=0.5).begin(start)
    assert both.embeds
    outputs = BatchOutputs(torch.zeros(4), torch.randn(4, 32, generator=torch.Generator().manual_seed(0)))
    for live in (both, alone):
        live.refresh(0)
    for step in (0, 3):
        batch = OptimizerBatch(step, torch.tensor([3, 4, 5, 6]), torch.tensor([5, 6, 7, 8]))
        expected = alone.weights(batch, outputs) * given.weights(batch, outputs)
        assert torch.equal(both.weights(batch, outputs), expected)
    assert set(both.state()) == {"direction"}
    with pytest.raises(ValueError, match="beside is a reweighter"):
        GivenWeights(beside=3)
    with pytest.raises(ValueError, match="leave it out, or beside"):
        GivenWeights(beside=other, averages="rows")
