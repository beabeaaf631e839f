"""Weights that are given with the rows have mean one over the tokens that are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curate.errors import InputError
from curate.reweighters import (
    GivenWeights,
)
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import TOKENS, asked, rows_of, training

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
        (["x"] * 41, "no numbers"),
    ],
)
def test_given_weights_that_cannot_serve(values: Any, message: str) -> None:
    rows = rows_of(w=[1.0] * 41) if values is None else rows_of(weight=values)
    with pytest.raises(InputError, match=message):
        GivenWeights().begin(training(tiny_model(), rows=rows))
