"""Compute what copies of late sequences do to the order of learning in linear attention, compared with SAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.theory import (
    Array,
    entropy,
    moments,
    population_loss,
    product,
    random_starts,
    through_heads,
)
from curate.difficulty.exposures import of_copied

# Part of `benchmarks.theory`. The second claim of arXiv 2602.00576: showing late-learned examples more often evens out
# the speeds at which features are learned, as SAM does. A sequence belongs to a group, which has a covariance of its
# own; shown k times in as many steps, a group of share h has its weight in the loss multiplied by k / (1 + (k - 1) h),
# and the others by 1 / (1 + (k - 1) h).

SEQUENCES = 3_000
FACTORS = (2, 3, 5)
RADII, REDUCED_RADII = (0.05, 0.1, 0.2), (0.05, 0.1, 0.15)
CHOSEN = 0.25  # share of the sequences that are chosen by their loss where there are no groups


@dataclass(frozen=True)
class Kind:
    """Sequences in g groups: their shares (g,), the variances (g, D) of the inputs along each direction, and which
    groups are late (g,). Without a late group, late sequences have to be found by their loss."""

    name: str
    what: str
    shares: Array
    variances: Array
    late: npt.NDArray[np.bool_]

    def optimum(self, context: int) -> Array:
        """(D,) diagonal of the best A over the whole mixture."""
        squares = (self.shares[:, None] * self.variances**2).sum(0)
        C = np.stack([moments(each, context) for each in self.variances])  # (g, D)
        return np.asarray(squares / (self.shares[:, None] * C * self.variances).sum(0))

    def test_loss(self, A: Array, context: int) -> Array:
        """Expected squared error over the mixture as it is, for A of shape (..., D, D); shape (...)."""
        loss = np.zeros(A.shape[:-2])
        for share, variances in zip(self.shares, self.variances, strict=True):
            loss += share * population_loss(A, variances, context)
        return loss


def kinds(eigenvalues: Array) -> list[Kind]:
    """The mixtures that are studied."""
    blocks = np.kron(np.eye(2), np.ones(2))  # (2, 4) directions of the early and of the late half
    return [
        Kind(
            "halves",
            "two groups of half of the sequences, one with the two large directions, one with the two small",
            np.array([0.5, 0.5]),
            2 * eigenvalues * blocks,
            np.array([False, True]),
        ),
        Kind(
            "zipf",
            "four groups of one direction each, 64, 24, 9 and 3 % of the sequences; the late two are copied",
            np.array([0.64, 0.24, 0.09, 0.03]),
            np.eye(4),
            np.array([False, False, True, True]),
        ),
        Kind(
            "rare block",
            "two directions in 90 % of the sequences, two others in 10 %",
            np.array([0.9, 0.1]),
            np.array([0.6, 0.4, 0.6, 0.4]) * blocks,
            np.array([False, True]),
        ),
        Kind(
            "gaussian",
            "one Gaussian; the quarter of the sequences is copied that is chosen by their loss",
            np.ones(1),
            eigenvalues[None],
            np.array([False]),
        ),
    ]


# -- the reduced equations --------------------------------------------------------------------------------------------


def reduced_lever(eigenvalues: Array, context: int, start: float = 0.2, fraction: float = 0.5) -> list[dict[str, Any]]:
    """By mixture and arm: learning times, their entropy, and the test loss at equal time.

    One head per direction, tau dv/dt = a v^2 - c v^5, where a and c are sums over the groups of their weight times
    variance^2 and times C variance. Equal time: that of the last direction without copies. "spectrum": the equation
    of one Gaussian, as though each half of the directions were seen in sequences of its own.
    """
    cubic = moments(eigenvalues, context) * eigenvalues
    late = np.arange(len(eigenvalues)) >= len(eigenvalues) / 2
    parts = np.stack([~late, late])  # (2, D)
    results = [
        _reduced(
            "spectrum",
            (parts * eigenvalues**2, parts * cubic),
            np.array([0.5, 0.5]),
            np.array([False, True]),
            lambda A: population_loss(A, eigenvalues, context),
            (start, fraction),
        )
    ]
    for kind in kinds(eigenvalues):
        C = np.stack([moments(each, context) for each in kind.variances])  # (g, D)
        share = kind.shares[:, None]
        growth = share * kind.variances**2, share * C * kind.variances

        def loss(A: Array, kind: Kind = kind) -> Array:
            return kind.test_loss(A, context)

        results.append(_reduced(kind.name, growth, kind.shares, kind.late, loss, (start, fraction)))
    return results


def _reduced(
    name: str,
    growth: tuple[Array, Array],
    shares: Array,
    late: npt.NDArray[np.bool_],
    loss: Callable[[Array], Array],
    span: tuple[float, float],
) -> dict[str, Any]:
    """One mixture: growth: a and c of each group (g, D) without copies; span: start, and fraction of the rest point."""
    groups = len(shares)
    share = float(shares[late].sum())
    arms: list[tuple[str, Array, float]] = [("original", np.ones(groups), 0.0)]
    if late.any():
        for factor in FACTORS:
            copied, others = of_copied(share, factor)
            arms.append((f"late x{factor}", np.where(late, copied, others), 0.0))
        for factor in FACTORS[:2]:
            copied, others = of_copied(1 - share, factor)
            arms.append((f"early x{factor}", np.where(late, others, copied), 0.0))
    arms += [(f"{which} x3", np.ones(groups), 0.0) for which in ("random", "all")]  # the mixture stays as it is
    arms += [(f"SAM {rho:g}", np.ones(groups), rho) for rho in REDUCED_RADII]
    if late.any():
        copied, others = of_copied(share, 3)
        arms.append(("late x3, SAM 0.1", np.where(late, copied, others), 0.1))
    end, rows = 0.0, []
    for arm, weights, rho in arms:
        a, c = (weights @ each for each in growth)  # (D,)
        times = time_to(a, c, *span, rho)
        end = end or float(times.max())
        reached = grown(a, c, span[0], end, rho)
        row = {"arm": arm, "times": times.round(3).tolist(), "entropy": round(float(entropy(times)), 6)}
        rows.append(row | {"loss": round(float(loss(np.diag(reached**3))), 6)})
    return {"kind": name, "arms": rows}


def time_to(a: Array, c: Array, start: float, fraction: float, rho: float = 0.0) -> Array:
    """(D,) times from v = start to a fraction of the rest point, for rates a v^2 - c v^5 at v - rho / sqrt(3)."""
    from scipy.integrate import quad

    def one(a: float, c: float) -> float:
        def slowness(v: float) -> float:
            seen = v - rho / np.sqrt(3)
            return float(1 / (a * seen**2 - c * seen**5))

        return float(quad(slowness, start, fraction * np.cbrt(a / c), epsabs=0, limit=200)[0])

    return np.array([one(*pair) for pair in zip(a.tolist(), c.tolist(), strict=True)])


def grown(a: Array, c: Array, start: float, time: float, rho: float = 0.0) -> Array:
    """(D,) size of each head after so long, from `start`."""
    reached = np.empty(len(a))
    for d in range(len(a)):
        # Under SAM a head comes to rest where what it sees, rho / sqrt(3) further down, is the rest point.
        rest = np.cbrt(a[d] / c[d]) + rho / np.sqrt(3)
        size = rest - (rest - start) * np.geomspace(1, 1e-9, 20_001)  # denser toward the rest point
        seen = size - rho / np.sqrt(3)
        slowness = 1 / (a[d] * seen**2 - c[d] * seen**5)
        passed = np.concatenate([[0.0], np.cumsum(np.diff(size) * (slowness[1:] + slowness[:-1]) / 2)])
        reached[d] = np.interp(time, passed, size)
    return reached


# -- the full model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sequences:
    """n sequences as the loss sees them: squared error (y - z . A)^2, A flattened.

    z: (n, D * D); y: (n,); group: (n,).
    """

    z: Array
    y: Array
    group: npt.NDArray[np.int64]

    def moments(self, weights: Array) -> tuple[Array, Array]:
        """E[z z'] and E[z y] with weights (n,)."""
        share = weights / weights.sum()
        return (self.z * share[:, None]).T @ self.z, self.z.T @ (share * self.y)

    def losses(self, A: Array) -> Array:
        """(n,) squared errors."""
        return np.asarray((self.y - self.z @ A.ravel()) ** 2)


def sampled(kind: Kind, context: int, seed: int, count: int = SEQUENCES) -> Sequences:
    """Training sequences of a kind; the groups have their shares to rounding."""
    rng = np.random.default_rng([seed, sum(map(ord, kind.name))])
    bounds = np.round(np.cumsum(kind.shares) * count).astype(int)
    group = np.searchsorted(bounds, np.arange(count), "right")
    spread = np.sqrt(kind.variances[group])  # (n, D)
    size = spread.shape[1]
    x = rng.normal(size=(count, context, size)) * spread[:, None]
    query, task = rng.normal(size=(count, size)) * spread, rng.normal(size=(count, size))
    beta = np.einsum("nci,ncj,nj->ni", x, x, task, optimize=True) / context
    z = (beta[:, :, None] * query[:, None, :]).reshape(count, -1)
    return Sequences(z, (query * task).sum(1), group)


def descend_on(
    starts: Array, M: Array, b: Array, rhos: Array, half: Array, step: float, most_steps: int, looks: npt.NDArray[Any]
) -> tuple[Array, Array]:
    """Learning times (B, D) in steps, nan where not learned, and A (B, L, D, D) after looks (B, L) steps.

    starts: (B, H, 1 + 2 D). M: (B, D * D, D * D), b: (B, D * D): moments of the sequences of each model. rhos: (B,)
    radii of SAM. half: (D,): a direction is learned when A[d, d] is past that.
    """
    weights, count, size = starts.copy(), len(starts), len(half)
    times = np.full((count, size), np.nan)
    seen = np.full((*looks.shape, size, size), np.nan)
    running = np.arange(count)
    sharp = rhos > 0

    def gradient(at: Array, rows: npt.NDArray[np.int64]) -> Array:
        G = 2 * (np.einsum("bij,bj->bi", M[rows], product(at).reshape(len(at), -1)) - b[rows])
        return through_heads(at, G.reshape(len(at), size, size))

    for done in range(most_steps + 1):
        A = product(weights[running])
        passed = np.einsum("mdd->md", A) > half
        times[running] = np.where(passed & np.isnan(times[running]), done, times[running])
        at_look = looks[running] == done  # (r, L)
        if at_look.any():
            row, column = np.nonzero(at_look)
            seen[running[row], column] = A[row]
        left = np.isnan(times[running]).any(1) | (looks[running] > done).any(1)
        running = running[left]
        if not len(running):
            break
        g = gradient(weights[running], running)
        sam = np.flatnonzero(sharp[running])
        if len(sam):
            norm = np.sqrt((g[sam] ** 2).sum((1, 2), keepdims=True))
            up = rhos[running[sam]][:, None, None] * g[sam] / np.maximum(norm, 1e-300)
            g[sam] = gradient(weights[running[sam]] + up, running[sam])
        weights[running] -= step * g
    return times, seen


def arms_of(kind: Kind, data: Sequences, early: Array, first: Array, seed: int) -> list[tuple[str, Array, float]]:
    """Arms with the weights (n,) of the sequences and the radius of SAM.

    early, first: (n,) losses of the original run when its first direction is learned, and at its start, by which
    sequences are chosen where there are no groups.
    """
    n = len(data.y)
    rng = np.random.default_rng([seed, 1])
    ones = np.ones(n)

    def copied(rows: npt.NDArray[np.bool_], factor: int) -> Array:
        return np.where(rows, float(factor), 1.0)

    arms: list[tuple[str, Array, float]] = [("original", ones, 0.0)]
    if kind.late.any():
        late = kind.late[data.group]
        arms += [(f"late x{k}", copied(late, k), 0.0) for k in FACTORS]
        arms += [("early x3", copied(~late, 3), 0.0)]
    else:
        count = round(CHOSEN * n)
        relative = np.argsort(early / first, kind="stable")  # learned first to last, by what is left of the loss
        large = np.argsort(early, kind="stable")
        late = np.isin(np.arange(n), relative[-count:])
        arms += [(f"late x{k}", copied(late, k), 0.0) for k in FACTORS]
        arms += [("early x3", copied(np.isin(np.arange(n), relative[:count]), 3), 0.0)]
        arms += [("largest loss x3", copied(np.isin(np.arange(n), large[-count:]), 3), 0.0)]
    random = np.zeros(n, bool)
    random[rng.choice(n, int(late.sum()), replace=False)] = True
    arms += [("random x3", copied(random, 3), 0.0), ("all x3", 3 * ones, 0.0)]
    arms += [(f"SAM {rho:g}", ones, rho) for rho in RADII]
    return [*arms, ("late x3, SAM 0.1", copied(late, 3), 0.1)]


def full_lever(
    eigenvalues: Array, context: int, seeds: int, heads: int, init: float, step: float, most_steps: int
) -> list[dict[str, Any]]:
    """By kind and arm: learning times, their entropy, and the test loss at equal steps, against the original arm.

    All arms of a seed have the same sequences and start weights. Equal steps: the original arm's last learning time,
    and half of it.
    """
    results = []
    for kind in kinds(eigenvalues):
        results.append(_of_kind(kind, context, seeds, heads, init, step, most_steps))
    return results


def _of_kind(
    kind: Kind, context: int, seeds: int, heads: int, init: float, step: float, most_steps: int
) -> dict[str, Any]:
    size = kind.variances.shape[1]
    half = kind.optimum(context) / 2
    starts = random_starts(range(seeds), heads, size, init)
    data = [sampled(kind, context, seed) for seed in range(seeds)]
    even = [each.moments(np.ones(len(each.y))) for each in data]
    none = np.zeros((seeds, 1), int)
    M, b = (np.stack(parts) for parts in zip(*even, strict=True))
    times, _ = descend_on(starts, M, b, np.zeros(seeds), half, step, most_steps, none)
    first = np.nanmin(times, 1).astype(int)
    last = np.where(np.isnan(times).any(1), most_steps, np.nanmax(times, 1)).astype(int)
    _, early = descend_on(starts, M, b, np.zeros(seeds), np.full(size, -np.inf), step, most_steps, first[:, None])
    models: list[tuple[int, str, float]] = []
    moments = []
    for seed, each in enumerate(data):
        losses = each.losses(early[seed, 0]), each.losses(product(starts[seed]))
        for name, weights, rho in arms_of(kind, each, *losses, seed):
            models.append((seed, name, rho))
            moments.append(each.moments(weights))
    of_seed = np.array([model[0] for model in models])
    M, b = (np.stack(parts) for parts in zip(*moments, strict=True))
    looks = np.stack([last[of_seed] // 2, last[of_seed]], 1)
    rhos = np.array([model[2] for model in models])
    times, seen = descend_on(starts[of_seed], M, b, rhos, half, step, most_steps, looks)
    return _summary(kind, models, times, kind.test_loss(seen, context))


def _summary(kind: Kind, models: Sequence[tuple[int, str, float]], times: Array, losses: Array) -> dict[str, Any]:
    """times: (B, D) of the models (seed, arm, radius); losses: (B, 2) at half of the equal steps, and at them."""
    arms = list(dict.fromkeys(name for _, name, _ in models))
    names = np.array([name for _, name, _ in models])
    entropies = {name: entropy(times[names == name]) for name in arms}  # (seeds,) each, nan where not learned
    losses_of = {name: losses[names == name] for name in arms}
    rows = []
    for name in arms:
        change = entropies[name] - entropies["original"]
        known = change[~np.isnan(change)]
        relative = losses_of[name] / losses_of["original"] - 1  # (seeds, 2)
        rows.append(
            {
                "arm": name,
                "times": np.nanmedian(times[names == name], 0).tolist(),
                "entropy": _mean(entropies[name]),
                "change": _mean(change),
                "change_error": _error(known),
                "higher": int((known > 0).sum()),
                "seeds": len(known),
                "loss": _mean(losses_of[name][:, 1]),
                "loss_change": _mean(relative[:, 1]),
                "loss_change_error": _error(relative[:, 1]),
                "loss_change_at_half": _mean(relative[:, 0]),
                "loss_lower": int((relative[:, 1] < 0).sum()),
            }
        )
    return {"kind": kind.name, "what": kind.what, "arms": rows}


def _mean(values: Array) -> float | None:
    return None if np.isnan(values).all() else round(float(np.nanmean(values)), 6)


def _error(values: Array) -> float | None:
    """Standard error of the mean."""
    return round(float(values.std(ddof=1) / np.sqrt(len(values))), 6) if len(values) > 1 else None
