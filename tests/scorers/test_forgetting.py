"""ForgettingCount counts what was learned and lost."""

import numpy as np
import pytest

from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Schedule
from scorers import (
    ForgettingCount,
)
from scorers.forgetting import TokenAccuracy
from tests.fixtures.checkpoints import given_run
from tests.fixtures.scored import examples_of


def test_forgetting_counts_what_was_learned_and_lost() -> None:
    accuracy = [
        [0.1, 0.6, 0.7, 0.9],  # learned once and for all
        [0.6, 0.4, 0.6, 0.4],  # forgotten twice
        [0.5, 0.5, 0.5, 0.49],  # once; the threshold itself counts as learned
        [0.4, 0.1, 0.2, 0.4],  # never learned
        [0.9, 0.9, 0.9, 0.9],
        [np.nan] * 4,
    ]
    valid = np.arange(6) < 5
    losses = np.where(valid[:, None, None], np.ones((6, 4, 1)), np.nan)
    run = given_run((TokenAccuracy(), np.array(accuracy)[:, :, None]), (MeanLoss(), losses), valid=valid)
    found = ForgettingCount().score(examples_of(6), run)
    np.testing.assert_array_equal(found.difficulty, [0, 2, 1, 4, 0, np.nan])
    np.testing.assert_array_equal(found.features[:, 0], [0, 2, 1, 4, 0, 0])
    assert ForgettingCount(threshold=0.95).threshold == 0.95
    with pytest.raises(InputError, match=r"no row is learned .*right tokens 0\.90\); lower ForgettingCount\.threshold"):
        ForgettingCount(threshold=0.95).score(examples_of(6), run)
    with pytest.raises(InputError, match=r"set proxy\.checkpoints to at least 2"):
        ForgettingCount().check_schedule(Schedule(np.array([5]), 15, 10.0))
