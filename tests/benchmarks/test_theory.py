"""The theory of the benchmark: its formulas against sampling, differences and the published table of entropies."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import theory
from benchmarks.theory import CONTEXT, EIGENVALUES


@pytest.fixture
def weights() -> np.ndarray:
    return theory.random_starts([3, 4], 5, 4, 0.5)


def test_loss_and_moments_are_those_of_sampled_sequences() -> None:
    rng = np.random.default_rng(0)
    eigenvalues, context, n = np.array([0.5, 0.3, 0.2]), 4, 200_000
    A = rng.normal(0, 1, (3, 3))
    x = rng.normal(0, np.sqrt(eigenvalues), (n, context, 3))
    query, task = rng.normal(0, np.sqrt(eigenvalues), (n, 3)), rng.normal(0, 1, (n, 3))
    beta = np.einsum("nci,ncj,nj->ni", x, x, task) / context
    np.testing.assert_allclose((beta**2).mean(0), theory.moments(eigenvalues, context), rtol=0.02)
    errors = (np.einsum("ni,ni->n", beta @ A, query) - (query * task).sum(1)) ** 2
    expected = theory.population_loss(A, eigenvalues, context)
    assert abs(errors.mean() - expected) < 4 * errors.std() / np.sqrt(n)
    assert errors.std() / np.sqrt(n) < 0.02 * expected


def test_gradients_are_the_slopes_of_the_loss(weights: np.ndarray) -> None:
    def loss(at: np.ndarray) -> float:
        return float(theory.population_loss(theory.product(at), EIGENVALUES, CONTEXT).sum())

    gradient = theory.model_gradient(weights, EIGENVALUES, CONTEXT)
    direction = np.random.default_rng(1).normal(size=weights.shape)
    slope = (loss(weights + 1e-5 * direction) - loss(weights - 1e-5 * direction)) / 2e-5
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-7)


def test_plateaus_are_where_the_gradient_is_zero_and_have_the_published_losses() -> None:
    plateaus = theory.plateau_losses(EIGENVALUES, CONTEXT)
    np.testing.assert_allclose(plateaus, [1.0, 0.640580, 0.377372, 0.209805, 0.135995], atol=6e-7)
    rest = np.cbrt(theory.optimum(EIGENVALUES, CONTEXT))
    np.testing.assert_allclose(rest, [1.30967, 1.43005, 1.61204, 1.94702], atol=6e-6)
    for learned in range(5):
        heads = [theory.single_head(v if d < learned else 0.0, 4, d)[0] for d, v in enumerate(rest)]
        state = np.stack(heads)
        assert np.abs(theory.model_gradient(state, EIGENVALUES, CONTEXT)).max() < 1e-14
        loss = theory.population_loss(theory.product(state), EIGENVALUES, CONTEXT)
        assert loss == pytest.approx(plateaus[learned], abs=1e-14)


@pytest.mark.parametrize(
    ("start", "fraction", "whole", "expected"),
    [
        (0.2, 0.5, True, [0.858368, 0.859566, 0.861491, 0.865045, 0.869052]),
        (0.2, 0.8, True, [0.877623, 0.877804, 0.878220, 0.879266, 0.880720]),
        (0.2, 0.5, False, [0.855895, 0.857389, 0.859714, 0.863828, 0.868272]),
        (0.2, 0.8, False, [0.870879, 0.871813, 0.873247, 0.875725, 0.878322]),
        (0.3, 0.8, True, [0.869732, 0.869662, 0.869720, 0.870217, 0.871171]),
    ],
)
def test_entropies_of_the_reduced_equation(start: float, fraction: float, whole: bool, expected: list[float]) -> None:
    found = [
        float(theory.entropy(theory.learning_times(EIGENVALUES, CONTEXT, start, fraction, rho, whole)))
        for rho in theory.TABLE_RHOS
    ]
    np.testing.assert_allclose(found, expected, atol=6e-7)


def test_learning_times() -> None:
    def times(rho: float, whole: bool = True) -> np.ndarray:
        return theory.learning_times(EIGENVALUES, CONTEXT, 0.2, 0.5, rho, whole)

    np.testing.assert_allclose(times(0.0), [22.3, 41.0, 95.9, 403.8], atol=0.06)
    np.testing.assert_allclose(times(0.15), [44.6, 81.1, 187.3, 774.6], atol=0.06)
    ends = 0.5 * np.cbrt(theory.optimum(EIGENVALUES, CONTEXT))
    np.testing.assert_allclose(times(0.0, whole=False), (1 / 0.2 - 1 / ends) / EIGENVALUES**2, rtol=1e-10)
    assert np.isinf(times(0.2 * np.sqrt(3))).all()
    assert np.isfinite(times(0.19 * np.sqrt(3))).all()


def test_entropy_is_largest_where_all_are_learned_at_one_speed() -> None:
    rows = np.random.default_rng(0).uniform(0.1, 1, (20, 4))
    assert theory.entropy(np.ones(4)) == pytest.approx(np.log(4))
    assert (theory.entropy(rows) < np.log(4)).all()
    np.testing.assert_allclose(theory.entropy(rows), theory.entropy(7 * rows))


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(("v", "rho"), [(0.2, 0.05), (0.3, 0.2), (1.0, 0.1)])
def test_on_one_head_sam_is_the_reduced_equation_to_machine_precision(index: int, v: float, rho: float) -> None:
    gradient = theory.sam_gradient(theory.single_head(v, 4, index), EIGENVALUES, CONTEXT, rho)[0]
    own = [0, 1 + index, 5 + index]
    expected = theory.rate(v, EIGENVALUES[index], 1.0, CONTEXT, rho)
    np.testing.assert_allclose(-0.5 * gradient[own], expected, rtol=1e-13)
    assert np.abs(np.delete(gradient, own)).max() < 1e-15


def test_the_first_order_constant_of_sam_is_two_over_the_root_of_three() -> None:
    for index in range(4):
        found = theory.first_order_constant(EIGENVALUES, CONTEXT, index)
        assert found == pytest.approx(2 / np.sqrt(3), rel=1e-6)
    rates = theory.sam_checks(EIGENVALUES, CONTEXT)["rates_at_eigenvalue_0.3_rho_0.05_v_0.2"]
    np.testing.assert_allclose(list(rates.values()), [0.002631, 0.002561, 0.000482, 0.003590], atol=6e-7)


def test_sam_of_radius_zero_is_descent_and_a_radius_is_the_length_of_the_step_up(weights: np.ndarray) -> None:
    gradient = theory.model_gradient(weights, EIGENVALUES, CONTEXT)
    np.testing.assert_array_equal(theory.sam_gradient(weights, EIGENVALUES, CONTEXT, 0.0), gradient)
    radii = np.array([0.1, 0.3])
    norms = np.sqrt((gradient**2).sum((1, 2)))
    up = weights + (radii / norms)[:, None, None] * gradient
    np.testing.assert_allclose(
        theory.sam_gradient(weights, EIGENVALUES, CONTEXT, radii), theory.model_gradient(up, EIGENVALUES, CONTEXT)
    )
    still = np.zeros((1, 5, 9))
    assert not theory.sam_gradient(still, EIGENVALUES, CONTEXT, 0.1).any()


def test_descent_learns_by_decreasing_eigenvalue_through_the_plateaus() -> None:
    start = theory.random_starts([2], 5, 4, 0.1)
    times = theory.simulate(EIGENVALUES, CONTEXT, start, (0.0,), step=0.2, most_steps=5000)[0, 0]
    assert (np.diff(times) > 0).all()
    steps, losses = theory.descend(start, EIGENVALUES, CONTEXT, (0.0,), 4000, 0.2)
    plateaus = theory.plateau_losses(EIGENVALUES, CONTEXT)
    after = (times[:-1] + times[1:]) / 2  # half way between two eigenvectors
    seen = losses[np.searchsorted(steps, after), 0]
    np.testing.assert_allclose(seen, plateaus[1:4], atol=0.005)
    assert losses[-1, 0] == pytest.approx(plateaus[-1], abs=1e-6)


def test_models_that_are_done_leave_the_others_as_they_are() -> None:
    starts = theory.random_starts([0, 2], 5, 4, 0.3)
    both = theory.simulate(EIGENVALUES, CONTEXT, starts, (0.0, 0.1), step=0.2, most_steps=400)
    alone = theory.simulate(EIGENVALUES, CONTEXT, starts[1:], (0.1,), step=0.2, most_steps=400)
    np.testing.assert_array_equal(both[1, 1], alone[0, 0])
    assert np.isnan(both).any()  # 400 steps are not enough for all
    assert not np.isnan(both[..., 0]).any()
