"""Where a proxy stops whose split has settled."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.stopping import Stop, find_stop, first_place, geometric, hard_rows, held_out_rows
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import EarlyOutput, PreMemorizationAccuracy
from tests.fixtures.scored import additions

GRID = (1, 2, 3, 4, 6, 8, 11, 16)
AUTO = Proxy(
    model="scratch",
    steps="auto",
    checkpoints=3,
    min_steps=6,
    horizon=18,
    batch_size=8,
    max_length=64,
    precision="float32",
)


def losses_of(settles: int, easy: float = 0.9, n: int = 200) -> Callable[[int], np.ndarray]:
    """(n, place + 1) losses: which half is hard changes at every point before `settles`; easy rows fall by a factor."""
    high = np.stack([(np.arange(n) % 2 == (min(place, settles) % 2)) for place in range(len(GRID))], axis=1)
    low = easy ** np.arange(len(GRID))
    losses = np.where(high, 50.0, low).astype(np.float32)
    return lambda place: losses[:, : place + 1]


def stop(losses: Callable[[int], np.ndarray], rule: str = "agreement", checkpoints: int = 1) -> tuple[int, bool]:
    every = np.ones(200, bool)
    found = find_stop(GRID, losses, every, np.arange(200) % 5 == 0, checkpoints, rule)
    return found.step, found.capped


@pytest.mark.parametrize(("settles", "step"), [(0, 3), (2, 6), (4, 11), (5, 16)])
def test_it_stops_at_the_third_of_three_points_whose_hard_rows_agree(settles: int, step: int) -> None:
    assert stop(losses_of(settles)) == (step, False)


def test_it_looks_back_on_as_many_points_as_there_are_checkpoints_and_says_so_where_the_end_came_first() -> None:
    assert (first_place(1), first_place(5)) == (2, 4)
    assert stop(losses_of(0), checkpoints=5) == (6, False)
    assert stop(losses_of(6)) == (16, True)


@pytest.mark.parametrize(("easy", "found"), [(0.96, (3, False)), (0.94, (16, True)), (1.01, (3, False))])
def test_the_easy_rows_must_have_stopped_falling_where_they_count(easy: float, found: tuple[int, bool]) -> None:
    assert stop(losses_of(0, easy), "agreement and easy loss") == found
    assert stop(losses_of(0, easy)) == (3, False)


def test_what_still_changes_at_the_end_is_named() -> None:
    points = [{"jaccard": None, "fell": None}, *({"jaccard": jaccard, "fell": 0.1} for jaccard in (0.5, 0.9, 0.9))]
    assert Stop(8, True, points[:3]).changing.startswith("the hard rows")
    assert Stop(16, True, points).changing.startswith("the loss of the easy rows")


def test_hard_rows_are_those_of_higher_last_loss_and_of_equal_losses_there_are_none() -> None:
    losses = np.array([[1, 9]] * 3 + [[9, 1]] * 3, np.float32)
    assert hard_rows(losses).tolist() == [True] * 3 + [False] * 3
    assert not hard_rows(np.ones((6, 2), np.float32)).any()
    ids = [f"r{k}" for k in range(2000)]
    held_out = held_out_rows(ids)
    assert 0.07 < held_out.mean() < 0.13
    assert held_out_rows(ids[::-1]).tolist() == held_out[::-1].tolist()


def test_the_grid_is_geometric_and_its_kth_point_is_at_half_of_the_usual_length() -> None:
    schedule = Proxy(model="scratch", steps="auto").schedule(32_000)
    assert schedule.grid is not None
    assert schedule.grid[:7].tolist() == [37, 53, 75, 106, 150, 212, 300]
    assert schedule.grid[-1] <= 3000 < schedule.grid[-1] * 2**0.5  # three epochs
    assert (schedule.auto, schedule.settled, schedule.rate) == (True, False, "constant")
    fixed = Proxy(model="scratch", steps=300, spacing="geometric").schedule(32_000)
    assert fixed.steps.tolist() == [75, 106, 150, 212, 300]
    assert fixed.horizon_steps == schedule.horizon_steps
    assert geometric(2, 1, 2**0.5).tolist() == [2]
    with pytest.raises(InputError, match=r"raise proxy\.horizon"):
        Proxy(model="scratch", steps=4000, spacing="geometric").schedule(32_000)
    with pytest.raises(ValueError, match="not a valid length"):
        Proxy(horizon="auto")


@pytest.mark.parametrize("scorer", [EarlyOutput(within=1), PreMemorizationAccuracy()])
def test_scorers_of_certain_steps_refuse_it(scorer: object) -> None:
    with pytest.raises(InputError, match=r"set proxy\.steps to a number"):
        scorer.check_schedule(AUTO.schedule(40))


def test_a_run_of_given_steps_shares_its_checkpoints_and_a_longer_one_extends_it_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, measures = additions(), [MeanLoss()]

    def trace(proxy: Proxy, cache: str) -> tuple[list[int], np.ndarray, str]:
        found = measure_checkpoints(examples, proxy, measures, Run(proxy, tmp_path / cache).context)
        return found.schedule.steps.tolist(), found.losses, found.proxy_key

    before = cached_state(examples, AUTO, measures, Run(AUTO, tmp_path / "a").context)
    assert not before.trained
    steps, losses, key = trace(AUTO, "a")
    facts = measure_checkpoints(examples, AUTO, measures, Run(AUTO, tmp_path / "a").context).facts
    assert facts["stop"]["step"] == steps[-1] == facts["stop"]["points"][-1]["step"]
    assert json.loads(json.dumps(facts))["steps"] == steps
    state = cached_state(examples, AUTO, measures, Run(AUTO, tmp_path / "a").context)
    assert state.trained
    assert state.measured == state.shards == 3
    given = AUTO.model_copy(update={"steps": steps[-1], "spacing": "geometric"})
    longer = AUTO.model_copy(update={"steps": 18, "spacing": "geometric", "min_steps": 6})
    straight = trace(longer, "b")
    extended = trace(longer, "a")
    assert extended[0] == straight[0]
    np.testing.assert_array_equal(extended[1], straight[1])
    # The other way round: what the longer run stored is all that the shorter ones need.
    monkeypatch.setattr(ProxyTraining, "train", lambda self: pytest.fail("trained again") if self.stop else None)
    for proxy in (given, AUTO):
        again = trace(proxy, "b" if proxy is given else "a")
        assert again[0] == steps
        assert again[2] == key
        np.testing.assert_array_equal(again[1], losses)
