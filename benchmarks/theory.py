"""Compute the simplicity bias of gradient descent and SAM in linear attention."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DETAILS = """\
    python -m benchmarks.theory [--seeds N] [--out FOLDER]

Multi-head linear attention with rank-one keys and queries learns linear regression in its context, one eigenvector of
the inputs' covariance after another (Zhang, Singh, Latham and Saxe, arXiv 2501.16265; arXiv 2602.00576 compares SAM
there). Computed here: the losses of the plateaus, the learning times of gradient descent and SAM in the reduced
equation and their entropy, SAM's first-order constant measured on the full model, the full model over many seeds, and
what copies of late, early and random sequences do instead (`benchmarks.theory_data`).
Writes theory.json, theory.md and four plots to FOLDER (`pip install -e '.[dev]'` for matplotlib). One thread.

Everything is in the eigenbasis of the covariance, which costs no generality: the model may be rotated with the data.
Time is in units of tau: gradient flow is tau dw/dt = -(1/2) dL/dw, so a descent step of size s is a time of 2 s.
"""

Array = npt.NDArray[np.float64]

EIGENVALUES = np.array([0.4, 0.3, 0.2, 0.1])
CONTEXT = 31  # examples in the prompt, N
HEADS = 5
INIT = 0.3
STEP = 0.05
RHOS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
MOST_STEPS = 60_000
# The table of learning-time entropies: (start, fraction of the rest point, whether the equation is whole).
CASES = ((0.2, 0.5, True), (0.2, 0.8, True), (0.2, 0.5, False), (0.2, 0.8, False), (0.3, 0.8, True))
TABLE_RHOS = (0.0, 0.02, 0.05, 0.1, 0.15)


# -- loss, gradient, plateaus -----------------------------------------------------------------------------------------


def moments(eigenvalues: Array, context: int) -> Array:
    """(D,) diagonal of C = E[b b'] for b = (1/N) sum_n y_n x_n: (1 + 1/N) lambda^2 + (trace / N) lambda."""
    return (1 + 1 / context) * eigenvalues**2 + eigenvalues.sum() / context * eigenvalues


def population_loss(A: Array, eigenvalues: Array, context: int) -> Array:
    """Expected squared error of the prediction b' A x, for A of shape (..., D, D); shape (...)."""
    along = np.einsum("...dd,d->...", A, eigenvalues**2)
    square = np.einsum("...ij,i,j->...", A**2, moments(eigenvalues, context), eigenvalues)
    return eigenvalues.sum() - 2 * along + square


def population_gradient(A: Array, eigenvalues: Array, context: int) -> Array:
    """dL/dA, shape (..., D, D)."""
    return 2 * (moments(eigenvalues, context)[:, None] * A * eigenvalues - np.diag(eigenvalues**2))


def optimum(eigenvalues: Array, context: int) -> Array:
    """(D,) diagonal of the best A; the rest point of the reduced equation is its cube root."""
    return 1 / (eigenvalues * (1 + (1 + eigenvalues.sum() / eigenvalues) / context))


def plateau_losses(eigenvalues: Array, context: int) -> Array:
    """(D + 1,) losses with the first 0, 1, ..., D eigenvectors learned."""
    gains = eigenvalues / (1 + (1 + eigenvalues.sum() / eigenvalues) / context)
    return eigenvalues.sum() - np.concatenate([[0.0], np.cumsum(gains)])


# -- the reduced equation ---------------------------------------------------------------------------------------------


def rate(v: Any, eigenvalue: float, trace: float, context: int, rho: float = 0.0, whole: bool = True) -> Any:
    """tau dv/dt of the one growing head (k = q = v e); with rho > 0 under SAM, which looks rho / sqrt(3) further down.

    whole: with the fifth-power term that ends the growth; without it only the start, lambda^2 v^2, is described.
    """
    seen = v - rho / np.sqrt(3)
    ending = eigenvalue**3 * (1 + (1 + trace / eigenvalue) / context) * seen**5 if whole else 0.0
    return eigenvalue**2 * seen**2 - ending


def learning_times(
    eigenvalues: Array, context: int, start: float, fraction: float, rho: float = 0.0, whole: bool = True
) -> Array:
    """(D,) times in units of tau from v = start to fraction times the rest point of gradient descent.

    Infinite where start <= rho / sqrt(3): such a head never leaves the saddle.
    """
    from scipy.integrate import quad

    if start <= rho / np.sqrt(3):
        return np.full(len(eigenvalues), np.inf)
    ends = fraction * np.cbrt(optimum(eigenvalues, context))
    trace = float(eigenvalues.sum())

    def one(eigenvalue: float, end: float) -> float:
        value, _ = quad(lambda v: 1 / rate(v, eigenvalue, trace, context, rho, whole), start, end, epsabs=0, limit=200)
        return float(value)

    return np.array([one(float(value), float(end)) for value, end in zip(eigenvalues, ends, strict=True)])


def entropy(times: Array) -> Array:
    """Entropy in nats of each row of times (..., D) as shares of their sum: ln D where all are learned at one speed."""
    shares = times / times.sum(-1, keepdims=True)
    return -(shares * np.log(shares)).sum(-1)


# -- the full model ---------------------------------------------------------------------------------------------------


def split_heads(weights: Array) -> tuple[Array, Array, Array]:
    """v (..., H, 1), k (..., H, D) and q (..., H, D) of weights (..., H, 1 + 2 D)."""
    size = (weights.shape[-1] - 1) // 2
    return weights[..., :1], weights[..., 1 : 1 + size], weights[..., 1 + size :]


def product(weights: Array) -> Array:
    """A = sum over heads of v k q', shape (..., D, D)."""
    v, k, q = split_heads(weights)
    return np.swapaxes(v * k, -1, -2) @ q


def through_heads(weights: Array, G: Array) -> Array:
    """dL/dweights (..., H, 1 + 2 D), given G = dL/dA (..., D, D)."""
    v, k, q = split_heads(weights)
    k_G, q_G = k @ G, q @ np.swapaxes(G, -1, -2)
    return np.concatenate([(k_G * q).sum(-1, keepdims=True), v * q_G, v * k_G], -1)


def model_gradient(weights: Array, eigenvalues: Array, context: int) -> Array:
    """dL/dweights, shape (..., H, 1 + 2 D)."""
    return through_heads(weights, population_gradient(product(weights), eigenvalues, context))


def sam_gradient(weights: Array, eigenvalues: Array, context: int, rho: Any) -> Array:
    """The gradient at weights + rho g / |g|, g being the gradient at weights; rho: a number or one per model (...)."""
    g = model_gradient(weights, eigenvalues, context)
    norm = np.sqrt((g**2).sum((-1, -2), keepdims=True))
    ascent = np.divide(g, norm, out=np.zeros_like(g), where=norm > 0)
    return model_gradient(weights + np.asarray(rho)[..., None, None] * ascent, eigenvalues, context)


def single_head(v: float, size: int, index: int) -> Array:
    """(1, 1 + 2 size): one head with k = q = v e_index."""
    weights = np.zeros((1, 1 + 2 * size))
    weights[0, [0, 1 + index, 1 + size + index]] = v
    return weights


def first_order_constant(eigenvalues: Array, context: int, index: int, v: float = 1e-3) -> float:
    """c in tau dv/dt = lambda^2 v^2 - c rho lambda^2 v, by central differences of SAM itself in rho on one head."""
    weights, step = single_head(v, len(eigenvalues), index), 1e-3 * v

    def along(rho: float) -> float:
        return float(-0.5 * sam_gradient(weights, eigenvalues, context, rho)[0, 0])

    return -(along(step) - along(-step)) / (2 * step * eigenvalues[index] ** 2 * v)


def random_starts(seeds: Sequence[int], heads: int, size: int, init: float = INIT) -> Array:
    """(seeds, H, 1 + 2 D) normal weights of deviation `init`."""
    return np.stack([np.random.default_rng(seed).normal(0, init, (heads, 1 + 2 * size)) for seed in seeds])


def simulate(
    eigenvalues: Array,
    context: int,
    starts: Array,
    rhos: Sequence[float],
    step: float = STEP,
    most_steps: int = MOST_STEPS,
) -> Array:
    """(S, rhos, D) first steps at which A[d, d] is past half its optimum; nan where that never happens.

    starts: (S, H, 1 + 2 D), the same for every rho. The population gradient, plain descent with SAM of radius rho.
    """
    weights = np.repeat(starts, len(rhos), 0)
    radii = np.tile(np.asarray(rhos, float), len(starts))
    times = np.full((len(weights), len(eigenvalues)), np.nan)
    running = np.arange(len(weights))
    half = optimum(eigenvalues, context) / 2
    for count in range(most_steps + 1):
        passed = np.einsum("mdd->md", product(weights)) > half
        times[running] = np.where(passed & np.isnan(times[running]), count, times[running])
        left = np.isnan(times[running]).any(-1)
        if not left.any():
            break
        if not left.all():  # models that are done take no more time
            weights, radii, running = weights[left], radii[left], running[left]
        weights = weights - step * sam_gradient(weights, eigenvalues, context, radii)
    return times.reshape(len(starts), len(rhos), -1)


def descend(
    weights: Array, eigenvalues: Array, context: int, rhos: Sequence[float], steps: int, step: float
) -> tuple[npt.NDArray[np.int64], Array]:
    """Losses of models (M, H, 1 + 2 D) with SAM radii (M,) at steps spaced evenly in their logarithm: (T,), (T, M)."""
    shown = np.unique(np.concatenate([[0], np.geomspace(1, steps, 400).round()])).astype(np.int64)
    losses, wanted = [], set(shown.tolist())
    for count in range(steps + 1):
        if count in wanted:
            losses.append(population_loss(product(weights), eigenvalues, context))
        weights = weights - step * sam_gradient(weights, eigenvalues, context, np.asarray(rhos))
    return shown, np.stack(losses)


# -- the record -------------------------------------------------------------------------------------------------------


def reduced(eigenvalues: Array, context: int) -> dict[str, Any]:
    """Entropies of the reduced equation: the table of cases, and where a small radius raises them and where not."""

    def of(start: float, fraction: float, rho: float, whole: bool = True) -> float:
        return float(entropy(learning_times(eigenvalues, context, start, fraction, rho, whole)))

    rows = []
    for start, fraction, whole in CASES:
        times_by_rho = [round(of(start, fraction, rho, whole), 6) for rho in TABLE_RHOS]
        rows.append({"start": start, "fraction": fraction, "whole": whole, "entropy": times_by_rho})
    grid = [
        {"start": start, "fraction": fraction, "change": of(start, fraction, 0.05) - of(start, fraction, 0.0)}
        for start in (0.1, 0.2, 0.3, 0.5)
        for fraction in (0.5, 0.65, 0.8, 0.95)
    ]
    times = {str(rho): learning_times(eigenvalues, context, 0.2, 0.5, rho).tolist() for rho in TABLE_RHOS}
    return {"rhos": TABLE_RHOS, "table": rows, "change_at_0.05": grid, "times_start_0.2_half": times}


def sam_checks(eigenvalues: Array, context: int) -> dict[str, Any]:
    """The reduced equation against SAM computed on the full model with one head: largest relative error, constant."""
    trace, worst = float(eigenvalues.sum()), 0.0
    for index, eigenvalue in enumerate(eigenvalues.tolist()):
        for v in (0.2, 0.5, 1.0):
            for rho in (0.02, 0.05, 0.1):
                gradient = sam_gradient(single_head(v, len(eigenvalues), index), eigenvalues, context, rho)
                own = gradient[0, [0, 1 + index, 1 + len(eigenvalues) + index]]
                expected = rate(v, eigenvalue, trace, context, rho)
                worst = max(worst, float(np.abs(-0.5 * own / expected - 1).max()))
    constants = [first_order_constant(eigenvalues, context, index) for index in range(len(eigenvalues))]
    v, rho, eigenvalue = 0.2, 0.05, 0.3
    start = eigenvalue**2 * v**2
    return {
        "largest_relative_error": worst,
        "first_order_constant": constants,
        "two_over_sqrt_3": 2 / np.sqrt(3),
        "rates_at_eigenvalue_0.3_rho_0.05_v_0.2": {
            "sam": rate(v, eigenvalue, trace, context, rho),
            "first order with 2 rho / sqrt 3": start - 2 * rho / np.sqrt(3) * eigenvalue**2 * v,
            "first order with 2 rho sqrt 3": start - 2 * rho * np.sqrt(3) * eigenvalue**2 * v,
            "gradient descent": rate(v, eigenvalue, trace, context),
        },
    }


def full_model(eigenvalues: Array, context: int, seeds: int) -> dict[str, Any]:
    """Learning times of the full model from random weights, and from one head of size 0.2 per eigenvector."""
    times = simulate(eigenvalues, context, random_starts(range(seeds), HEADS, len(eigenvalues)), RHOS)
    entropies = entropy(times)
    change = entropies - entropies[:, :1]
    summary = []
    for k, rho in enumerate(RHOS[1:], 1):
        known = change[~np.isnan(change[:, k]), k]
        summary.append(
            {
                "rho": rho,
                "seeds": len(known),
                "higher": int((known > 0).sum()),
                "lower": int((known < 0).sum()),
                "mean_change": float(known.mean()),
                "standard_error": float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
            }
        )
    aligned = np.concatenate([single_head(0.2, len(eigenvalues), d) for d in range(len(eigenvalues))])[None]
    together = simulate(eigenvalues, context, aligned, RHOS)[0]

    def alone(rho: float) -> Array:  # half of the best A is this fraction of the rest point
        return learning_times(eigenvalues, context, 0.2, 0.5 ** (1 / 3), rho)

    return {
        "settings": {"heads": HEADS, "init": INIT, "step": STEP, "seeds": seeds, "most_steps": MOST_STEPS},
        "rhos": RHOS,
        "entropy": _plain(entropies),
        "unlearned": int(np.isnan(times).any(-1).sum()),
        "summary": summary,
        "one_head_each": {
            "times": together.tolist(),
            "entropy": _plain(entropy(together))[0],
            "slower": (together[-1] / together[0]).round(2).tolist(),
            "slower_reduced": (alone(RHOS[-1]) / alone(0.0)).round(2).tolist(),
        },
    }


def curves(eigenvalues: Array, context: int) -> dict[str, Any]:
    """Losses of one model from small weights under gradient descent and SAM, and the losses where it stands still."""
    rhos, step = (0.0, 0.1), 0.1
    start = random_starts([2], HEADS, len(eigenvalues), 0.1)
    steps, losses = descend(np.repeat(start, len(rhos), 0), eigenvalues, context, rhos, 30_000, step)
    speed = -np.diff(losses[1:, 0]) / np.diff(np.log(steps[1:]))
    still = np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] <= speed[2:])) + 1
    return {
        "settings": {"heads": HEADS, "init": 0.1, "step": step, "seed": 2},
        "rhos": rhos,
        "steps": steps.tolist(),
        "losses": losses.round(6).T.tolist(),
        "stands_still_at": sorted({round(float(losses[1 + k, 0]), 4) for k in still}, reverse=True),
    }


def _plain(values: Array) -> Any:
    """Nested lists with None for nan."""
    return [[None if np.isnan(x) else round(float(x), 6) for x in row] for row in np.atleast_2d(values)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="of the full model (20)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    options = parser.parse_args()
    from benchmarks.theory_data import SEQUENCES, full_lever, reduced_lever

    began = time.perf_counter()
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.theory --seeds {options.seeds}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy", "matplotlib")},
        "eigenvalues": EIGENVALUES.tolist(),
        "context": CONTEXT,
        "plateaus": plateau_losses(EIGENVALUES, CONTEXT).round(6).tolist(),
        "rest_points": np.cbrt(optimum(EIGENVALUES, CONTEXT)).round(6).tolist(),
        "reduced": reduced(EIGENVALUES, CONTEXT),
        "sam": sam_checks(EIGENVALUES, CONTEXT),
        "full_model": full_model(EIGENVALUES, CONTEXT, options.seeds),
        "curves": curves(EIGENVALUES, CONTEXT),
        "data_lever": {
            "reduced": reduced_lever(EIGENVALUES, CONTEXT),
            "sequences": SEQUENCES,
            "full_model": full_lever(EIGENVALUES, CONTEXT, options.seeds, HEADS, INIT, STEP, MOST_STEPS),
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    from benchmarks.theory_page import draw, page

    draw(record, options.out)
    record["seconds"] = round(time.perf_counter() - began, 1)
    (options.out / "theory.md").write_text(page(record))
    print(page(record))
    del record["curves"]["losses"], record["curves"]["steps"]  # they are in the plot
    (options.out / "theory.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
