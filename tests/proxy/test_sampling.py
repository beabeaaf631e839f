"""Scoring on a budget: which rows are measured, what is predicted of the others, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.sampling import choose_sample, predict, stratified
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import ErrorNorm, LossTrajectory
from tests.fixtures.scored import additions

pytestmark = pytest.mark.usefixtures("tiny_scratch")

N = 10_000
LENGTHS = np.random.default_rng(0).integers(10, 200, N)
SOURCES = np.array([f"s{k % 7 % 3}" for k in range(N)], object)
VALID = np.arange(N) % 50 != 0
TOTAL = int(LENGTHS[VALID].sum())


def test_a_sample_has_its_share_of_every_source_and_length() -> None:
    usable = np.flatnonzero(VALID)
    rows = stratified(usable, 1_000, LENGTHS, SOURCES, 0)
    assert len(np.unique(rows)) == 1_000
    assert (np.diff(rows) > 0).all()
    assert VALID[rows].all()
    for source in ("s0", "s1", "s2"):
        mine, all_of_it = SOURCES[rows] == source, SOURCES[usable] == source
        assert abs(mine.mean() - all_of_it.mean()) < 0.002
        assert abs(LENGTHS[rows][mine].mean() - LENGTHS[usable][all_of_it].mean()) < 1
    assert not np.array_equal(rows, stratified(usable, 1_000, LENGTHS, SOURCES, 1))
    assert np.array_equal(rows, stratified(usable, 1_000, LENGTHS, SOURCES, 0))
    assert stratified(usable, len(usable), LENGTHS, None, 0).tolist() == usable.tolist()


def choose(rows: int | None = None, budget: int | None = None, checkpoints: int = 5):  # type: ignore[no-untyped-def]
    return choose_sample(rows, budget, checkpoints, VALID, LENGTHS, SOURCES, 0)


def test_rows_alone_leave_one_pass_over_the_others() -> None:
    sample = choose(rows=500)
    assert len(sample.rows) == 500
    assert sample.measured.tolist() == [4]
    assert sample.others(5).tolist() == [0, 1, 2, 3]
    assert sample.tokens == TOTAL + 4 * LENGTHS[sample.rows].sum()
    assert choose(rows=N) is choose() is choose(budget=5 * TOTAL) is None


@pytest.mark.parametrize("share", [0.37, 0.4, 0.5, 0.65, 0.8, 0.99])
@pytest.mark.parametrize("rows", [None, 300])
def test_a_budget_is_kept_and_used(share: float, rows: int | None) -> None:
    budget = int(5 * TOTAL * share)
    sample = choose(rows, budget)
    assert sample.tokens <= budget
    assert sample.measured[-1] == 4
    assert len(sample.measured) == 1 or sample.measured[0] == 0
    assert rows is None or len(sample.rows) == rows
    if rows is None:
        assert sample.tokens > budget * 0.98
        assert len(sample.rows) >= 2_000


def test_a_budget_below_one_pass_is_refused_with_what_would_do() -> None:
    with pytest.raises(InputError, match=r"1,000 tokens, but one pass .* sample of 200 need ([\d,]+)") as caught:
        choose(200, 1_000)
    needed = int(str(caught.value).split(" need ")[1].split(";")[0].replace(",", ""))
    assert choose(200, needed).tokens == needed
    with pytest.raises(InputError, match="one pass"):
        choose(200, needed - 1)


def test_losses_that_follow_from_the_known_ones_are_predicted_and_the_error_is_that_of_unseen_rows() -> None:
    rng = np.random.default_rng(0)
    last, tokens = rng.uniform(0.5, 4, (3_000, 1)).astype(np.float32), rng.integers(5, 90, 3_000)
    exact = 0.3 + 1.2 * last[:, 0] + 0.1 * last[:, 0] ** 2 + 0.05 * np.log1p(tokens)
    noisy = exact + rng.normal(0, 0.2, 3_000)
    rows = np.arange(0, 3_000, 5)
    last[10] = np.nan
    found = predict(last, tokens, rows, np.stack([exact, noisy], axis=1)[rows].astype(np.float32))
    assert np.nanmax(np.abs(found.losses[:, 0] - exact)) < 1e-3
    assert np.isnan(found.losses[10]).all()
    rest = np.setdiff1d(np.arange(3_000), [*rows, 10])
    assert found.error[1] == pytest.approx(np.sqrt(np.mean((found.losses[rest, 1] - noisy[rest]) ** 2)), rel=0.15)
    assert found.error[0] < 1e-3
    assert 0.8 < found.explained[1] < found.explained[0] <= 1


PROXY = Proxy(model="scratch", steps=6, checkpoints=3, batch_size=8, max_length=32, score_sample=100)


def test_the_sample_is_measured_throughout_and_the_others_once(tmp_path: Path) -> None:
    examples = additions(260)
    run = Run(PROXY, tmp_path)
    scores = LossTrajectory().score(examples, run)
    training = ProxyTraining(examples, PROXY, run.context)
    assert training.sample is not None
    rows, facts = training.sample.rows, run.facts(examples)
    assert facts is not None
    assert facts["sample"]["rows"] == len(rows) == 100
    assert facts["sample"]["steps_of_all"] == [6]
    assert len(facts["sample"]["error"]) == 2
    assert facts["steps_per_epoch"] == 100 / 8
    assert scores.trajectory is not None
    assert np.isfinite(scores.trajectory).all()
    # The sample's losses, and the last ones of all rows, are those that full measuring on the same checkpoints gives.
    sampled = measure_checkpoints(examples, PROXY, [MeanLoss()], run.context)
    assert np.array_equal(sampled.losses, scores.trajectory)
    state = cached_state(examples, PROXY, [MeanLoss()], run.context)
    assert state.measured == state.shards == 3
    whole = training.tokenized.tokens
    from curate.models.scoring import LossEngine

    model = training.model.eval()
    for step, column in ((2, 0), (6, 2)):
        training.load_weights(model, step)
        losses = LossEngine(model, precision="float32").losses(whole)
        measured = np.arange(260) if step == 6 else rows
        assert np.allclose(losses[measured], scores.trajectory[measured, column], atol=1e-4)
        assert step == 6 or not np.allclose(losses, scores.trajectory[:, column], atol=1e-4)


def test_one_checkpoint_leaves_nothing_to_predict(tmp_path: Path) -> None:
    proxy = PROXY.model_copy(update={"checkpoints": 1})
    scores = LossTrajectory().score(additions(260), Run(proxy, tmp_path))
    assert scores.trajectory is not None
    assert np.isfinite(scores.trajectory).all()


def test_a_scorer_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--score-budget\) is for scorers of losses, and "):
        ErrorNorm().score(additions(260), Run(PROXY, tmp_path))
