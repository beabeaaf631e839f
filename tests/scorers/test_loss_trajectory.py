"""Loss trajectories by hand: their features, and losses that are not finite."""

from typing import Any

import numpy as np
import pytest

from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from scorers import FinalLoss, LossTrajectory
from tests.fixtures.checkpoints import given_run
from tests.fixtures.scored import examples_of

LOSSES = np.array([[4.0, 2.0, 1.0], [3.0, 3.0, 0.0], [0.0, 5.0, 5.0]], np.float32)


def scored(scorer: Any, losses: np.ndarray = LOSSES, valid: Any = None) -> Any:
    return scorer.score(examples_of(len(losses)), given_run((MeanLoss(), losses[:, :, None]), valid=valid))


@pytest.mark.parametrize(
    ("scorer", "features"),
    [
        (LossTrajectory(), LOSSES.tolist()),
        # A ratio over a loss of 0 is not finite and counts as 1.
        (LossTrajectory(features="relative"), [[0.5, 0.5], [1, 0], [1, 1]]),
        (LossTrajectory(features="final"), [[1], [0], [5]]),
        (FinalLoss(), [[1], [0], [5]]),
    ],
    ids=repr,
)
def test_features_are_those_of_the_kind_and_difficulty_is_their_mean(scorer: Any, features: list[Any]) -> None:
    scores = scored(scorer)
    assert scores.features.tolist() == features
    np.testing.assert_allclose(scores.difficulty, np.mean(features, axis=1))
    np.testing.assert_array_equal(scores.trajectory, LOSSES)
    assert scores.steps.tolist() == [10, 20, 30]


def test_an_invalid_row_has_no_difficulty() -> None:
    losses = LOSSES.copy()
    losses[1] = np.nan
    scores = scored(LossTrajectory(), losses, [True, False, True])
    assert np.isnan(scores.difficulty).tolist() == [False, True, False]
    assert scores.features[1].tolist() == [0, 0, 0]


def test_a_loss_that_is_not_finite_names_row_step_and_remedy() -> None:
    losses = LOSSES.copy()
    losses[2, 1] = np.inf
    with pytest.raises(InputError, match=r"first row 2 \(id r2\) at step 20; lower proxy\.learning_rate"):
        scored(LossTrajectory(), losses)


def test_ratios_need_two_checkpoints() -> None:
    assert scored(LossTrajectory(), LOSSES[:, :1]).features.shape == (3, 1)
    with pytest.raises(InputError, match=r"set proxy\.checkpoints to at least 2"):
        scored(LossTrajectory(features="relative"), LOSSES[:, :1])
