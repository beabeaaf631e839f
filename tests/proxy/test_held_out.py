"""Losses of rows under the half-proxy that never saw them: grid, cache, null rows and groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.data.examples import Examples
from curate.data.readers import read
from curate.difficulty.halves import make_halves
from curate.difficulty.reducible import gains, reducible_rows
from curate.errors import InputError
from curate.proxy.held_out import grid, half_proxy, like_rows, measure_halves, null_examples
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import measure_held_out
from curate.proxy.training import ProxyTraining
from curate.run import Run
from tests.fixtures.scored import PROXY, additions

LETTERS = "abcdefgh"
FREQUENT = Proxy(model="scratch", steps=60, checkpoints=2, batch_size=16, max_length=32, precision="float32")


def _skills(n: int, wrong: float, seed: int = 0) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Rows of two substitutions, a frequent and a rare one, (n,) which are rare and which have another completion."""
    rng = np.random.default_rng(seed)
    rare, bad = rng.random(n) < 0.2, rng.random(n) < wrong
    tables = [rng.permutation(8) for _ in range(2)]
    prompts, completions = [], []
    for k in range(n):
        asked = rng.integers(0, 8, 3)
        told = rng.integers(0, 8, 3) if bad[k] else tables[int(rare[k])][asked]
        prompts.append(f"{'fjord' if rare[k] else 'coral'} : {' '.join(LETTERS[i] for i in asked)}")
        completions.append(" ".join(LETTERS[i] for i in told))
    ids = [f"r{k}" for k in range(n)]
    return read(pa.table({"prompt": prompts, "completion": completions, "id": ids})).examples, rare, bad


def test_the_grid_is_geometric_and_holds_the_length_of_the_proxy() -> None:
    assert grid(300, 1200).tolist() == [75, 106, 150, 212, 300, 424, 600, 849, 1200]
    assert grid(100, 100).tolist() == [25, 35, 50, 71, 100]
    assert grid(2, 8).tolist() == [1, 2, 3, 4, 6, 8]
    half = half_proxy(Proxy(model="scratch"), 3000)
    schedule = half.schedule(1500)
    assert schedule.steps.tolist() == grid(300, 1200).tolist()
    assert schedule.horizon_steps >= 3 * 1200
    assert half.learning_rate is None
    assert half.batch_size == 32


def test_a_run_is_resumed_and_repeated_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = additions(60)
    first = measure_halves(examples, PROXY, Run(PROXY, tmp_path).context, null_rows=6)
    assert first.steps.tolist() == [1, 2, 3, 4, 6, 8, 12, 17, 24]
    assert first.steps[first.short] == 6
    assert first.rows.shape == (60, 9)
    assert first.null.shape == (len(first.halves.null), 9)
    assert len(first.null) >= 4
    assert np.isfinite(first.rows).all()
    assert np.isfinite(first.null).all()
    monkeypatch.setattr(ProxyTraining, "model", property(lambda self: pytest.fail("model was loaded")))
    again = measure_halves(examples, PROXY, Run(PROXY, tmp_path).context, null_rows=6)
    np.testing.assert_array_equal(again.rows, first.rows)
    np.testing.assert_array_equal(again.null, first.null)


def test_null_rows_have_the_completion_of_their_donor_and_nothing_else_changes() -> None:
    examples = additions(60)
    prompts, completions = (examples.texts(role, 0, 60) for role in ("prompt", "completion"))
    ids = examples.ids.to_pylist()
    halves = make_halves(ids, [len(text) for text in completions], completions, null_rows=8)
    null = null_examples(examples, halves)
    assert null.texts("prompt", 0, len(null)) == [prompts[k] for k in halves.null]
    assert null.texts("completion", 0, len(null)) == [completions[k] for k in halves.donor]
    assert not set(null.ids.to_pylist()) & set(examples.ids.to_pylist())


def test_in_conversations_the_last_answer_is_exchanged(tmp_path: Path) -> None:
    rows = [
        [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": f"what is {k} plus {k}?"},
            {"role": "assistant", "content": f"it is {2 * k}"},
        ]
        for k in range(60)
    ]
    examples = read(pa.table({"messages": rows})).examples
    found = measure_halves(examples, PROXY, Run(PROXY, tmp_path).context, null_rows=6)
    assert np.isfinite(found.rows).all()
    assert np.isfinite(found.null).all()
    null = null_examples(examples, found.halves)
    turns, own = null.texts("messages", 0, len(null)), examples.texts("messages", 0, 60)
    for given, row, donor in zip(turns, found.halves.null, found.halves.donor, strict=True):
        assert given[:2] == own[row][:2]
        assert given[2] == own[donor][2] != own[row][2]


def test_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 rows are too few"):
        measure_halves(additions(1), PROXY, Run(PROXY, tmp_path).context)


def test_losses_are_those_of_the_half_that_never_saw_the_row(tmp_path: Path) -> None:
    examples = additions(60)
    context = Run(PROXY, tmp_path).context
    found = measure_halves(examples, PROXY, context, null_rows=6)
    proxy = half_proxy(ProxyTraining(examples, PROXY, context).proxy, 60)
    proxy = proxy.model_copy(update={"template": ProxyTraining(examples, PROXY, context).template})
    trained = examples.take(found.halves.trained_on(1))
    rows = found.halves.measured_by(1)[0]
    trace = measure_held_out(trained, [examples.take(rows)], proxy, [MeanLoss()], context)[0]
    np.testing.assert_array_equal(trace.losses, found.rows[rows])
    assert trace.ids.to_pylist() == examples.take(rows).ids.to_pylist()


def test_equal_rows_near_duplicates_and_rows_of_one_parent_are_alike() -> None:
    story = "a farmer has {} cows and buys several more at the market on friday then sells some of them to a neighbor"
    texts = [story.format(3), "another text", story.format(4), "another text", "made from the first", "alone"]
    texts += [f"number {k} of other rows with words of its own {k * k} and {k**3}" for k in range(40)]
    ids = [f"r{k}" for k in range(len(texts))]
    parents = [None, None, None, None, "r5", None, *[None] * 40]
    groups, patterns = like_rows(texts, ids, parents)
    assert patterns == 0
    assert groups[0] == groups[2]
    assert groups[1] == groups[3]
    assert groups[4] == groups[5]
    assert len(np.unique(groups)) == len(texts) - 3


def test_rows_without_a_completion_of_their_own_are_refused(tmp_path: Path) -> None:
    examples = read(pa.table({"text": [f"row {k}" for k in range(20)]})).examples
    with pytest.raises(InputError, match="prompts and completions in separate columns"):
        measure_halves(examples, PROXY, Run(PROXY, tmp_path).context)


@pytest.mark.long
@pytest.mark.usefixtures("tiny_scratch")
def test_planted_wrong_rows_are_told_from_rare_ones(tmp_path: Path) -> None:
    examples, rare, bad = _skills(800, 0.15)
    found = measure_halves(examples, FREQUENT, Run(FREQUENT, tmp_path).context)
    gained = gains(found.rows, found.null, found.halves, found.short)
    result = reducible_rows(gained, rare | bad, resamples=100)
    above = result.reducible
    assert above[rare & ~bad].mean() > above[bad].mean() + 0.3
