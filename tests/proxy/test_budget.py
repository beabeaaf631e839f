"""Held-out curves along a budget: what is trained and measured, what it costs, and that none of it is done twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.models.loading import parameter_count
from curate.proxy.budget import Budget, Cost, ForecastSettings, check_cost, cost_of, grid, size_of
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import measure_held_out
from curate.proxy.training import ProxyTraining
from curate.run import Run
from tests.fixtures.scored import PROXY, additions


def _split(examples: Examples) -> Split:
    n = len(examples)
    hard, difficulty = np.arange(n) % 4 == 0, np.ones(n, np.float32)
    return Split(examples.ids, hard.astype(np.int32), hard, difficulty, np.ones(n, bool))


def _budget(examples: Examples, cache: Path, **settings: object) -> Budget:
    chosen = ForecastSettings.model_validate({"steps": 12, "batch_size": 16, **settings})
    return Budget(examples, _split(examples), PROXY, chosen, Run(PROXY, cache).context)


def test_the_grid_ends_at_the_budget() -> None:
    assert grid(1600).tolist() == [100, 141, 200, 283, 400, 566, 800, 1131, 1600]
    assert grid(4).tolist() == [1, 2, 3, 4]


def test_steps_see_as_many_rows_as_those_of_the_fine_tuning() -> None:
    settings = ForecastSettings(steps="2 epochs", batch_size=64)
    assert settings.target_steps(320) == 10
    assert settings.proxy_steps(Proxy(batch_size=32), 320) == 20
    with pytest.raises(ValueError, match="not a valid length"):
        ForecastSettings(steps="soon")


def test_curves_are_of_rows_that_the_proxy_never_saw_and_free_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = additions(80)
    budget = _budget(examples, tmp_path)
    assert set(budget.inside.ids.to_pylist()).isdisjoint(budget.outside.ids.to_pylist())
    assert len(budget.inside) + len(budget.outside) == 80
    assert len(budget.outside) <= 20
    assert not budget.cost().cached
    curves = budget.curves(3.0)
    assert curves.steps.tolist() == grid(24).tolist()  # of 8 rows each, as 12 of 16
    assert (curves.hard_share, curves.clock, curves.length) == (0.25, 3.0, 6)
    (trace,) = measure_held_out(
        budget.inside, [budget.outside], budget.proxy, [MeanLoss()], Run(PROXY, tmp_path / "other").context
    )
    np.testing.assert_array_equal(curves.losses, trace.losses)
    monkeypatch.setattr(ProxyTraining, "model", property(lambda self: pytest.fail("model was loaded")))
    again = _budget(examples, tmp_path)
    np.testing.assert_array_equal(again.curves(3.0).losses, curves.losses)
    assert again.cost().cached
    assert not again.cost().asked_for


def test_the_share_is_that_of_the_operations(tmp_path: Path) -> None:
    examples = additions(80)
    training = ProxyTraining(examples, PROXY, Run(PROXY, tmp_path).context)
    own = parameter_count("scratch", None, training.tokenizer)
    of = cost_of(training, ForecastSettings(steps=12, batch_size=16, model="2M"), 0)
    assert of.share == pytest.approx(own / 2e6)  # as many rows, and nothing measured
    assert cost_of(training, ForecastSettings(steps=12, batch_size=16, model="2M")).share > own / 2e6
    assert cost_of(training, ForecastSettings(steps=12, batch_size=16)).share is None
    assert (size_of("1.5B", training), size_of("350m", training), size_of("scratch", training)) == (1.5e9, 3.5e8, own)
    with pytest.raises(ValueError, match="a size such as"):
        ForecastSettings(steps=12, model="0B")


def test_how_long_the_proxy_trains_and_what_it_measures_change_nothing_of_the_curves(tmp_path: Path) -> None:
    examples, context = additions(80), Run(PROXY, tmp_path).context
    changes: list[dict[str, object]] = [{}, {"steps": 5, "checkpoints": 2}, {"score_sample": 40}]
    changes.append({"steps": "auto", "min_steps": 4})
    kept = set()
    for change in changes:
        proxy = PROXY.model_copy(update=change | {"horizon": 12})
        budget = Budget(examples, _split(examples), proxy, ForecastSettings(steps=12, batch_size=16), context)
        kept.add(ProxyTraining(budget.inside, budget.proxy, context).key)
        assert len(ProxyTraining(budget.inside, budget.proxy, context).training_tokens.ids) > 0
        assert budget.proxy.score_sample is None
    assert len(kept) == 1


COST = Cost(100, 70_000_000, 1_000_000, 9, "M", 100, 0.04, False)


def test_it_is_asked_for_above_a_twentieth_or_where_the_share_is_not_known() -> None:
    check_cost(COST, False, "pass --yes")
    dear, unknown = replace(COST, share=0.06), replace(COST, share=None, target=None)
    for cost in (dear, unknown):
        with pytest.raises(InputError, match=r"5% .*pass --yes"):
            check_cost(cost, False, "pass --yes")
        check_cost(cost, True, "pass --yes")
        check_cost(replace(cost, cached=True), False, "pass --yes")
    assert "6.0 % of the fine-tuning of M" in str(dear)
    assert "not known" in str(unknown)


def test_too_few_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few to hold a quarter"):
        _budget(additions(3), tmp_path)
