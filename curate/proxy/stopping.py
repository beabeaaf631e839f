"""Stopping rule for a proxy of unknown length: train until its split has settled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from curate.clusterers import KMeans
from curate.types import BoolArray, FloatArray, IntArray

# "agreement": the hard rows of three consecutive points agree; "agreement and easy loss": and the held-out loss of the
# easy ones has nearly stopped falling. In 21 cells of the map the first lost 0.04 of F1 against the best length (0.12
# at worst, at 0.70 of the usual length), the second 0.05 (0.51): the easy loss may keep falling to the end.
StopOn = Literal["agreement", "agreement and easy loss"]
AGREE = 0.8  # Jaccard index of the hard rows of neighboring points
FELL = 0.05  # share by which the easy rows' loss has fallen since the previous point
HELD_OUT = 10  # one row in this many is held out, if the easy loss counts


@dataclass(frozen=True)
class Stop:
    """Where training stopped.

    step: of the last checkpoint. capped: whether the schedule ended before the split had settled. points: for each
    checkpoint step, hard_share, jaccard (with the previous point), and with held-out rows easy_loss (nats per token)
    and fell (the share by which it has fallen since).
    """

    step: int
    capped: bool
    points: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def changing(self) -> str:
        """What was still changing at the last point, in words."""
        if _agree(self.points):
            return "the loss of the easy rows still falls from checkpoint to checkpoint"
        return "the hard rows still change from checkpoint to checkpoint"


def first_place(checkpoints: int) -> int:
    """The first index of the grid at which training may stop: it takes K points to look back on, and three splits."""
    return max(checkpoints, 3) - 1


def find_stop(
    grid: Sequence[int],
    losses_through: Callable[[int], FloatArray],
    valid: BoolArray,
    held_out: BoolArray,
    checkpoints: int,
    stop_on: StopOn,
) -> Stop:
    """The first point of the grid at which the rule holds, else the last.

    At every checkpoint of a geometric grid, KMeans splits the rows in two by their losses at the last K points. Which
    rule loses least was measured on five kinds of tasks (benchmarks/LOG.md, "Length of the proxy").

    losses_through: index -> (n, index + 1) losses in nats per token through that point; trains that far. valid: (n,)
    rows with losses. held_out: (n,) rows that are not trained on; they are clustered together with the others.
    """
    points: list[dict[str, Any]] = []
    before: BoolArray | None = None
    for place, step in enumerate(grid):
        losses = losses_through(place)[valid]
        hard = hard_rows(losses[:, max(0, place - checkpoints + 1) :])
        easy = losses[~hard & held_out[valid]].astype(np.float64)
        loss = float(easy[:, -1].mean()) if len(easy) else None
        last = float(easy[:, -2].mean()) if len(easy) and place else None
        points.append(
            {
                "step": int(step),
                "hard_share": float(hard.mean()),
                "jaccard": None if before is None else _jaccard(hard, before),
                "easy_loss": loss,
                "fell": None if loss is None or not last else 1 - loss / last,
            }
        )
        if place >= first_place(checkpoints) and _holds(points, stop_on):
            return Stop(int(step), False, points)
        before = hard
    return Stop(int(grid[-1]), True, points)


def hard_rows(losses: FloatArray) -> BoolArray:
    """(n,) bool: the cluster with the higher loss at the last point; losses: (n, k)."""
    labels = np.asarray(KMeans().fit_predict(losses))  # (n,)
    means = {number: losses[labels == number, -1].mean() for number in np.unique(labels).tolist()}
    if len(means) < 2:
        return np.zeros(len(losses), np.bool_)
    return np.asarray(labels == max(means, key=lambda number: means[number]))


def held_out_rows(ids: Sequence[str]) -> BoolArray:
    """(n,) bool: one row in ten, by the hash of its id, independent of the order of the rows."""
    digests = (hashlib.blake2b(str(row_id).encode(), digest_size=8, person=b"proxy stop").digest() for row_id in ids)
    return np.array([int.from_bytes(digest, "little") % HELD_OUT == 0 for digest in digests], np.bool_)


def _holds(points: Sequence[dict[str, Any]], stop_on: StopOn) -> bool:
    if not _agree(points):
        return False
    fell = points[-1]["fell"]
    return stop_on == "agreement" or (fell is not None and fell < FELL)


def _agree(points: Sequence[dict[str, Any]]) -> bool:
    """Whether the hard rows of the last three points agree."""
    return all(point["jaccard"] is not None and point["jaccard"] >= AGREE for point in points[-2:])


def _jaccard(first: BoolArray, second: BoolArray) -> float:
    either = int((first | second).sum())
    return float((first & second).sum() / either) if either else 1.0


def geometric(first: float, last: float, ratio: float) -> IntArray:
    """(G,) whole steps first * ratio^j up to `last`, without duplicates."""
    count = int(np.log(max(last / first, 1)) / np.log(ratio) + 1e-9) + 1
    return np.unique(np.maximum(np.round(first * ratio ** np.arange(count)), 1).astype(np.int64))
