"""The networks of the family symbols: trained side by side as they are alone, and paired where they should be."""

import numpy as np
import pytest
import torch

from benchmarks.when.family import Phase, Run
from benchmarks.when.settings import Setting
from benchmarks.when.symbols import LENGTH, SymbolsTask, encoded

SETTING = Setting("symbols", "nothing", 0.4, 200, 16, 10, "t_hard", (1,), ("original",))


@pytest.fixture(scope="module")
def task() -> SymbolsTask:
    return SymbolsTask(SETTING, 3)


def _phases(task: SymbolsTask, factor: int = 1) -> list[Phase]:
    counts = np.ones(len(task.rows), np.int64)
    counts[:50] = factor
    return [Phase(20, counts)]


def test_runs_side_by_side_are_those_of_each_alone(task: SymbolsTask) -> None:
    runs = {"a": Run(_phases(task), [5, 20]), "b": Run(_phases(task, 3), [20])}
    together = dict(task.train(runs))
    for name, run in runs.items():
        alone = dict(task.train({name: run}))[name]
        assert [outcome.step for outcome in together[name]] == list(run.at)
        for one, other in zip(alone, together[name], strict=True):
            for group in task.mixture:
                assert one.groups[group].nats == pytest.approx(other.groups[group].nats, rel=1e-4)
    first, second = (together[name][-1].groups for name in runs)
    assert any(first[group].nats != second[group].nats for group in first)


def test_a_network_that_trains_learns(task: SymbolsTask) -> None:
    losses = task.proxy_losses(task.rows, task.rows, [0, 300], 0)
    assert losses[:, 0].mean() == pytest.approx(np.log(8), abs=0.1)
    assert losses[:, 1].mean() < 0.8


def test_scores_are_the_losses_of_the_proxy_by_id(task: SymbolsTask) -> None:
    scores = task.scores()
    assert scores.ids.to_pylist() == task.rows["id"].to_pylist()
    assert scores.trajectory is not None
    assert scores.trajectory.shape == (200, 5)
    assert scores.difficulty == pytest.approx(scores.trajectory.mean(1))


def test_a_model_that_knows_the_frequent_part_is_good_at_it_and_only_at_it() -> None:
    changed = Setting(**{**SETTING.__dict__, "knows": "frequent"})
    task = SymbolsTask(changed, 3)
    (outcome,) = dict(task.train({"a": Run([Phase(1, np.ones(200, np.int64))], [0])}))["a"]
    nats = {group: tally.nats / tally.tokens for group, tally in outcome.groups.items()}
    assert nats["coral"] < 0.2
    assert nats["amber"] > 1.5


def test_encoding_is_one_hot(task: SymbolsTask) -> None:
    inputs, targets = encoded(task.rows)
    assert torch.equal(inputs.sum(1), torch.full((200,), 1.0 + LENGTH))
    assert targets.shape == (200, LENGTH)
