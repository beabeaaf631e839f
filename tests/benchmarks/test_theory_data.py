"""The data as a lever: reduced equations against an integration of their own, moments against sampling, arms."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from benchmarks import theory
from benchmarks.theory import CONTEXT, EIGENVALUES
from benchmarks.theory_data import arms_of, descend_on, full_lever, kinds, reduced_lever, sampled

KINDS = {kind.name: kind for kind in kinds(EIGENVALUES)}


@cache
def _spectrum() -> dict[str, dict]:
    return {row["arm"]: row for row in reduced_lever(EIGENVALUES, CONTEXT)[0]["arms"]}


@cache
def _integrated(weights: tuple[float, ...], rho: float, until: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Learning times from 0.2 to half of the rest point, and sizes at `until`, written out and integrated anew."""
    times, sizes = [], []
    for weight, eigenvalue in zip(weights, EIGENVALUES, strict=True):
        damping = 1 + (1 + 1.0 / eigenvalue) / CONTEXT
        end = 0.5 * (eigenvalue * damping) ** (-1 / 3)

        def flow(_t, v, weight=weight, eigenvalue=eigenvalue, damping=damping):
            w = v - rho / 3**0.5
            return weight * (eigenvalue**2 * w**2 - eigenvalue**3 * damping * w**5)

        def reached(_t, v, end=end):
            return v[0] - end

        found = solve_ivp(flow, (0, 5000), [0.2], events=reached, rtol=1e-10, atol=1e-12, dense_output=True)
        times.append(found.t_events[0][0])
        sizes.append(found.sol(until or 0.0)[0])
    return np.array(times), np.array(sizes)


@pytest.mark.parametrize(
    ("arm", "weights", "rho", "published"),
    [
        ("original", [1, 1, 1, 1], 0.0, 0.858),
        ("late x2", [2 / 3, 2 / 3, 4 / 3, 4 / 3], 0.0, 1.025),
        ("late x3", [0.5, 0.5, 1.5, 1.5], 0.0, 1.121),
        ("early x2", [4 / 3, 4 / 3, 2 / 3, 2 / 3], 0.0, 0.724),
        ("random x3", [1, 1, 1, 1], 0.0, 0.858),
        ("all x3", [1, 1, 1, 1], 0.0, 0.858),
        ("SAM 0.15", [1, 1, 1, 1], 0.15, 0.869),
        ("late x3, SAM 0.1", [0.5, 0.5, 1.5, 1.5], 0.1, None),
    ],
)
def test_the_reduced_equations_are_those_of_an_independent_integration(
    arm: str, weights: list[float], rho: float, published: float | None
) -> None:
    rows = _spectrum()
    times, sizes = _integrated(tuple(weights), rho, _integrated((1, 1, 1, 1), 0.0)[0].max())
    np.testing.assert_allclose(rows[arm]["times"], times, atol=1e-3, rtol=1e-6)
    shares = times / times.sum()
    assert rows[arm]["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=2e-6)
    if published is not None:
        assert rows[arm]["entropy"] == pytest.approx(published, abs=1e-3)
    damping = 1 + (1 + 1 / EIGENVALUES) / CONTEXT
    loss = 1 - (2 * EIGENVALUES**2 * sizes**3 - damping * EIGENVALUES**3 * sizes**6).sum()
    assert rows[arm]["loss"] == pytest.approx(loss, abs=1e-5)


def test_without_groups_no_copies_are_in_the_reduced_equation() -> None:
    of_kind = {each["kind"]: each["arms"] for each in reduced_lever(EIGENVALUES, CONTEXT)}
    assert [row["arm"] for row in of_kind["gaussian"]][:3] == ["original", "random x3", "all x3"]
    assert of_kind["gaussian"][0]["entropy"] == pytest.approx(0.858368, abs=1e-6)
    assert not any("late" in row["arm"] for row in of_kind["gaussian"])


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_moments_of_sampled_sequences_are_those_of_the_mixture(kind) -> None:
    data = sampled(kind, CONTEXT, 0, 60_000)
    A = np.random.default_rng(0).normal(0, 1, (4, 4))
    losses = data.losses(A)
    error = losses.std() / np.sqrt(len(losses))
    assert abs(losses.mean() - kind.test_loss(A, CONTEXT)) < 4 * error
    M, b = data.moments(np.ones(60_000))
    a = A.ravel()
    assert a @ M @ a - 2 * b @ a + (data.y**2).mean() == pytest.approx(losses.mean(), rel=1e-9)
    best = np.diag(kind.optimum(CONTEXT))
    for d in range(4):
        step = np.zeros((4, 4))
        step[d, d] = 1e-3
        middle = kind.test_loss(best, CONTEXT)
        assert kind.test_loss(best + step, CONTEXT) > middle
        assert kind.test_loss(best - step, CONTEXT) > middle
    np.testing.assert_allclose(np.bincount(data.group) / 60_000, kind.shares, atol=1e-4)


def test_descent_on_moments_is_that_of_the_population() -> None:
    """With the moments of one Gaussian it takes the steps of `theory.simulate`, SAM included."""
    M = np.kron(np.diag(theory.moments(EIGENVALUES, CONTEXT)), np.diag(EIGENVALUES))
    b = np.diag(EIGENVALUES**2).ravel()
    starts, rhos = theory.random_starts([0, 1], 5, 4, 0.3), (0.0, 0.1)
    expected = theory.simulate(EIGENVALUES, CONTEXT, starts, rhos, step=0.2, most_steps=400)
    half = theory.optimum(EIGENVALUES, CONTEXT) / 2
    looks = np.full((4, 1), 50)
    args = np.repeat(starts, 2, 0), np.stack([M] * 4), np.stack([b] * 4), np.tile(rhos, 2), half
    times, seen = descend_on(*args, 0.2, 400, looks)
    np.testing.assert_array_equal(times.reshape(2, 2, 4), expected)
    weights = starts[:1]
    for _ in range(50):
        weights = weights - 0.2 * theory.sam_gradient(weights, EIGENVALUES, CONTEXT, np.array([0.0]))
    np.testing.assert_allclose(seen[0, 0], theory.product(weights)[0], rtol=1e-9, atol=1e-12)


def test_arms_copy_what_their_names_say() -> None:
    kind = KINDS["zipf"]
    data = sampled(kind, CONTEXT, 0, 1000)
    arms = {name: (weights, rho) for name, weights, rho in arms_of(kind, data, np.ones(1000), np.ones(1000), 0)}
    late = data.group >= 2
    np.testing.assert_array_equal(arms["late x3"][0], np.where(late, 3, 1))
    np.testing.assert_array_equal(arms["early x3"][0], np.where(late, 1, 3))
    assert (arms["random x3"][0] == 3).sum() == late.sum()
    assert arms["SAM 0.1"][1] == 0.1
    gaussian = KINDS["gaussian"]
    rng = np.random.default_rng(0)
    early, first = rng.random(1000), rng.random(1000) + 0.5
    data = sampled(gaussian, CONTEXT, 0, 1000)
    arms = {name: (weights, rho) for name, weights, rho in arms_of(gaussian, data, early, first, 0)}
    chosen = arms["late x2"][0] == 2
    assert chosen.sum() == 250
    assert (early / first)[chosen].min() > (early / first)[~chosen].max()
    largest = arms["largest loss x3"][0] == 3
    assert early[largest].min() > early[~largest].max()


def test_copying_all_changes_nothing_and_late_copies_even_out_the_times() -> None:
    found = {each["kind"]: each["arms"] for each in full_lever(EIGENVALUES, CONTEXT, 2, 5, 0.3, 0.2, 3000)}
    assert set(found) == set(KINDS)
    zipf = {row["arm"]: row for row in found["zipf"]}
    assert zipf["all x3"]["change"] == pytest.approx(0, abs=1e-9)
    assert zipf["all x3"]["loss_change"] == pytest.approx(0, abs=1e-9)
    assert zipf["late x3"]["higher"] == zipf["late x3"]["seeds"] == 2
    assert zipf["early x3"]["change"] < 0
    assert zipf["late x3"]["loss_change"] < 0 < zipf["early x3"]["loss_change"]
