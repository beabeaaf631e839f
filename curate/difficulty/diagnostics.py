"""Statistics of a split: silhouette, agreement, divergence, correlations and noise suspects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.clusterers.features import source_codes
from curate.difficulty.reducible_report import reducible_record
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import HardPolicy, agreement, join_scores, make_split, mean_agreement
from curate.errors import InputError, RunWarning
from curate.seeds import derive_seed
from curate.types import BoolArray, IntArray

# The silhouette compares every pair of rows; at 4,000 its standard error is about 0.01.
SILHOUETTE_ROWS = 4_000
RANKED_ROWS = 1_000_000
# A row is flat if it falls by less than this share of what the median row falls: rows learned before the proxy
# stopped have fallen further by the end, later ones have not.
FLAT_SHARE = 0.25
# If the median row falls less than this share of its loss, nothing was learned and no row can stand out as flat.
MIN_TYPICAL_FALL = 0.05
# High: this many robust standard deviations (1.4826 MAD) above the median final loss.
HIGH_DEVIATIONS = 1.0
# Fewer rows give no usable median.
MIN_NOISE_ROWS = 50
# The mean loss must fall by this share of its spread over rows; less is what warm-up moves.
MIN_FALL = 0.1
# Rows must differ in how far they fall by this share of the spread; else the last checkpoint ranks them like the first.
MIN_SPEED_SPREAD = 0.1
# Distance of the hard from the easy centroid over the typical distance of a row from its own: k-means that
# cuts structureless noise in two gets 0.7 at six checkpoints, a gap between two kinds of rows 2 and more.
MIN_SEPARATION = 1.0
_LATER = ("length_difference_correlation", "reducible")  # than records that lack them


@dataclass(frozen=True)
class Diagnostics:
    """Statistics of a split; None for those that could not be measured (one cluster, no trajectory, one proxy seed).

    silhouette: mean silhouette of the clusters in feature space, of `silhouette_rows` sampled rows; with
        clustering per source the mean over sources, weighted by their rows.
    seed_agreement: {seeds, jaccard, jaccard_min, ari}: mean over pairs of proxy seeds.
    feature_agreement: {jaccard, ari} with the split by the final loss alone.
    hard_share: hard rows over valid rows.
    hard_share_by_source: source -> {rows, hard, share}, of valid rows; "" = rows without a source.
    length_correlation: Spearman correlation of difficulty with completion tokens.
    length_difference_correlation: the same with the tokens of chosen minus rejected answers, where pairs were compared.
    diverged: see `divergence`.
    noise: {suspects, share, share_of_hard}: rows of `noise_suspect`, over valid and over hard rows.
    noise_suspect: (n,) bool, see `noise_suspects`; all false without a trajectory.
    reducible: see `reducible_record`.
    """

    silhouette: float | None
    silhouette_rows: int
    seed_agreement: dict[str, float | None] | None
    feature_agreement: dict[str, float | None] | None
    hard_share: float
    hard_share_by_source: dict[str, dict[str, float]] | None
    length_correlation: float | None
    diverged: dict[str, Any] | None
    noise: dict[str, float | None] | None
    noise_suspect: BoolArray
    warnings: tuple[RunWarning, ...] = ()
    length_difference_correlation: float | None = None
    reducible: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain JSON types, without noise_suspect and warnings, which are written elsewhere."""
        absent = {name for name in _LATER if getattr(self, name) is None} | {"noise_suspect", "warnings"}
        return {name: value for name, value in vars(self).items() if name not in absent}


def measure_split(
    scores: Scores,
    split: Split,
    clusterer: Any,
    hard: HardPolicy,
    tokens: npt.NDArray[Any] | None,
    seed: int,
    others: Sequence[Split],
) -> Diagnostics:
    """Diagnostics of `split` without warnings; for arguments and errors see `split_warnings.diagnose`."""
    scores = join_scores(scores, split.ids)
    if scores.trajectory is not None:
        not_finite = split.valid & ~np.isfinite(scores.trajectory).all(axis=1)
        if not_finite.any():
            row = int(np.argmax(not_finite))
            raise InputError(
                f"the trajectory of row {row} (example id {split.ids[row]}) is not finite; mark it invalid"
            )
    lengths = scores.tokens if tokens is None else tokens
    value, rows = silhouette(scores.features, split, seed)
    suspects, noise = _noise(scores, split)
    return Diagnostics(
        silhouette=value,
        silhouette_rows=rows,
        seed_agreement=mean_agreement((split, *others)),
        feature_agreement=_feature_agreement(scores, split, clusterer, hard, seed),
        hard_share=_share(split.hard, split.valid) or 0.0,
        hard_share_by_source=_by_source(split),
        length_correlation=_correlation(split, lengths),
        diverged=None if scores.trajectory is None else divergence(scores.trajectory, split),
        noise=noise,
        noise_suspect=suspects,
        length_difference_correlation=_correlation(split, scores.length_difference),
        reducible=reducible_record((split, *others)),
    )


def _correlation(split: Split, values: npt.NDArray[Any] | None) -> float | None:
    """Spearman correlation of difficulty with (n,) values over valid rows."""
    return None if values is None else rank_correlation(split.difficulty[split.valid], values[split.valid])


def _noise(scores: Scores, split: Split) -> tuple[BoolArray, dict[str, float | None] | None]:
    """`Diagnostics.noise_suspect` and `Diagnostics.noise`."""
    if scores.trajectory is None:
        return np.zeros(len(split), bool), None
    suspects = noise_suspects(scores.trajectory, split.valid)
    shares = {"share": _share(suspects, split.valid), "share_of_hard": _share(suspects, split.hard)}
    return suspects, {"suspects": int(suspects.sum()), **shares}


def _share(part: BoolArray, rows: BoolArray) -> float | None:
    """Share of the rows of `rows` (n,) that are in `part` (n,); None if there are none."""
    total = int(rows.sum())
    return float((part & rows).sum() / total) if total else None


def _groups(split: Split) -> list[IntArray]:
    """Positions of the clustered rows, without noise, of each source that was clustered by itself, or of all rows."""
    rows = np.flatnonzero(split.cluster >= 0)  # (m,)
    if not split.per_source:
        return [rows]
    codes, names = source_codes(split.sources, len(split))
    ordered = rows[np.argsort(codes[rows], kind="stable")]
    return np.split(ordered, np.searchsorted(codes[ordered], np.arange(1, len(names))))


def silhouette(features: npt.NDArray[Any], split: Split, seed: int = 0) -> tuple[float | None, int]:
    """Mean silhouette of the clusters on a seeded sample of at most SILHOUETTE_ROWS rows, and the rows measured.

    Only rows that were clustered together are compared; None if no sample has two clusters.
    """
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(derive_seed(seed, "silhouette"))
    clustered = np.flatnonzero(split.cluster >= 0)
    sampled = np.zeros(len(split), bool)  # (n,)
    sampled[rng.choice(clustered, min(SILHOUETTE_ROWS, len(clustered)), replace=False)] = True
    values, weights = [], []
    for rows in _groups(split):
        sample = rows[sampled[rows]]
        labels = split.cluster[sample]
        if 2 <= len(np.unique(labels)) < len(sample):
            values.append(float(silhouette_score(features[sample], labels)))
            weights.append(len(sample))
    if not values:
        return None, 0
    return float(np.average(values, weights=weights)), sum(weights)


def _feature_agreement(
    scores: Scores, split: Split, clusterer: Any, hard: HardPolicy, seed: int
) -> dict[str, float | None] | None:
    """Agreement with the split by the final loss; None if there is no loss, or it is the only feature."""
    final = scores.final_loss
    if clusterer is None or final is None or np.array_equal(scores.features, final[:, None], equal_nan=True):
        return None
    by_final_loss = Scores(final[:, None], final, scores.valid, tokens=scores.tokens, ids=scores.ids)
    labels: dict[str, Any] = {"ids": split.ids, "sources": split.sources, "strata": split.strata}
    return agreement(split, make_split(by_final_loss, clusterer, hard=hard, seed=seed, **labels))


def _by_source(split: Split) -> dict[str, dict[str, float]] | None:
    """`Diagnostics.hard_share_by_source`."""
    if split.sources is None:
        return None
    codes, names = source_codes(split.sources, len(split))
    rows = np.bincount(codes[split.valid], minlength=len(names))  # (sources,)
    hard = np.bincount(codes[split.hard], minlength=len(names))
    return {
        name or "": {"rows": int(r), "hard": int(h), "share": float(h / r)}
        for name, r, h in zip(names, rows, hard, strict=True)
        if r
    }


def rank_correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float | None:
    """Spearman correlation of two (n,) arrays; None if one is constant or n < 3.

    Larger arrays are subsampled evenly to about `RANKED_ROWS`; the standard error is then 0.001.
    """
    from scipy.stats import rankdata

    step = max(1, len(a) // RANKED_ROWS)
    a, b = a[::step], b[::step]
    if len(a) < 3 or (a == a[0]).all() or (b == b[0]).all():
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def divergence(trajectory: npt.NDArray[Any], split: Split) -> dict[str, Any] | None:
    """Measure whether loss trajectories (n, K) fell and separated; None with fewer than two checkpoints.

    fall: mean fall of the loss from the first to the last checkpoint, over the standard deviation of the
        first over rows.
    speed_spread: standard deviation over rows of that fall, over that of the last checkpoint's loss.
    separation: distance of the mean trajectory of hard rows from that of easy ones, over the root mean squared
        distance of a row from its own; per source (weighted by rows) if the split is. None if nothing is hard.
    ok: whether each reaches its threshold. A number without a spread to divide by is None.
    """
    losses = trajectory if split.valid.all() else trajectory[split.valid]
    if losses.shape[1] < 2 or len(losses) < 2:
        return None
    first, last = losses[:, 0].astype(np.float64), losses[:, -1].astype(np.float64)
    fall = _ratio(float((first - last).mean()), float(first.std()))
    speed_spread = _ratio(float((first - last).std()), float(last.std()))
    parts = [(_separation(trajectory, split.hard, rows), len(rows)) for rows in _groups(split)]
    separations = [(value, weight) for value, weight in parts if value is not None]
    separation = None
    if separations:
        separation = float(np.average([v for v, _ in separations], weights=[w for _, w in separations]))
    limits = ((fall, MIN_FALL), (speed_spread, MIN_SPEED_SPREAD), (separation, MIN_SEPARATION))
    ok = all(value is not None and value >= limit for value, limit in limits)
    return {"ok": ok, "fall": fall, "speed_spread": speed_spread, "separation": separation}


def _ratio(part: float, total: float) -> float | None:
    return part / total if total > 0 else None


def _separation(losses: npt.NDArray[Any], hard: BoolArray, rows: IntArray) -> float | None:
    """Separation of hard and easy rows among `rows`, see `divergence`; None if there is only one kind.

    losses: (n, K). hard: (n,). Computed one checkpoint at a time, which avoids a copy of all losses.
    """
    within, between = 0.0, 0.0
    easy_rows, hard_rows = rows[~hard[rows]], rows[hard[rows]]
    if not len(easy_rows) or not len(hard_rows):
        return None
    parts = (easy_rows, hard_rows)
    for column in losses.T:  # (n,), of one checkpoint
        centers = [column[part].mean(dtype=np.float64) for part in parts]
        within += sum(
            float(np.square(column[part] - center).sum()) for part, center in zip(parts, centers, strict=True)
        )
        between += (centers[1] - centers[0]) ** 2
    return _ratio(math.sqrt(between), math.sqrt(within / len(rows)))


def noise_suspects(trajectory: npt.NDArray[Any], valid: BoolArray | None = None) -> BoolArray:
    """(n,) bool: rows whose loss stays high and flat while that of other rows falls.

    This is not a list of wrong rows. A wrong answer's loss behaves so, but so does that of a right answer whose skill
    the proxy has not reached: on data without wrong rows, 68 to 77 % of the rows of rare skills are marked. Read some.

    With fall = 1 - (lowest later loss) / (first loss) of each row of `trajectory` (n, K): a suspect's fall is
    under FLAT_SHARE of the median fall, and its final loss more than HIGH_DEVIATIONS robust standard deviations
    above the median. The loss of a row that is learned before the proxy stops falls, and that of a row that was known
    from the start is not high. No row is suspect if the median row hardly falls, with one checkpoint, or with under
    MIN_NOISE_ROWS rows. Medians describe good rows only while noise is the minority; and to a proxy that has not
    learned to relate the answer to the question, wrong answers are as easy as right ones, so that none stands out.
    """
    valid = np.ones(len(trajectory), bool) if valid is None else valid  # (n,)
    suspects = np.zeros(len(trajectory), bool)  # (n,)
    losses = trajectory if valid.all() else trajectory[valid]
    if losses.shape[1] < 2 or len(losses) < MIN_NOISE_ROWS:
        return suspects
    first, final = losses[:, 0].astype(np.float64), losses[:, -1].astype(np.float64)
    fall = 1 - losses[:, 1:].min(axis=1).astype(np.float64) / np.where(first > 0, first, np.inf)
    typical = float(np.median(fall))
    if typical < MIN_TYPICAL_FALL:
        return suspects
    middle = np.median(final)
    deviation = 1.4826 * np.median(np.abs(final - middle))
    suspects[valid] = (fall < FLAT_SHARE * typical) & (final > middle + HIGH_DEVIATIONS * deviation)
    return suspects
