"""Forecast whether copies of hard rows help, before fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curate.console.formatting import plot_text
from curate.console.presentation import Facts, Presented
from curate.difficulty.exposures import (
    GAIN,
    effective,
    effective_share,
    factor_for,
    fall_per_e_fold,
    last_e_fold,
    of_copied,
)
from curate.difficulty.figures import EASY, GREY, HARD, framed, rounded
from curate.difficulty.panels import shown
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import INVALID, join_scores
from curate.errors import RunWarning
from curate.mixture.forecast_words import NOT_FORECAST, cautions, lines, missing
from curate.mixture.mixture import Copies, Order
from curate.mixture.plan import Plan, Realized
from curate.mixture.verdicts import BudgetForecast, Verdict
from curate.types import BoolArray, Float64Array, IntArray

_MOST_DRAWN = 12  # clusters in the plot
_UNMEASURED = -3  # cluster number of new rows that were not measured; further origins get -4, -5, ...


@dataclass(frozen=True)
class Exposure:
    """Exposure of a group of rows with the plan, relative to the original data.

    rows: in the input. rows_after: in the result, counting copies, weights, and new rows that were measured as rows of
        this group. new: number of these new rows.
    share, share_after: share of all rows.
    steps, epochs: relative exposure at equal steps, and in one epoch; None for a group without rows in the input.
    loss, fall: mean loss of its rows at the last checkpoint, and its fall per e-fold of passes, in nats per token; None
        if the scores have no losses.
    hard: None for a mixed group, and for new rows that were not measured.
    """

    name: str
    rows: int
    rows_after: float
    new: int
    share: float
    share_after: float
    steps: float | None
    epochs: float | None
    loss: float | None = None
    fall: float | None = None
    hard: bool | None = None
    cluster: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class Factor:
    """Smallest number of occurrences of every hard row for an exposure of `GAIN` at equal steps.

    extra_rows: copies that this adds. hard, easy: resulting exposures of hard rows and of all others at equal steps.
    effective_share: see `Forecast`.
    """

    times: int
    extra_rows: int
    hard: float
    easy: float
    effective_share: float


@dataclass(frozen=True, repr=False)
class Forecast(Presented):
    """Forecast of fine-tuning on a curated dataset instead of on the original data.

    verdict: "not forecast" from the short proxy alone; with held-out curves the first of `budget_forecast.verdicts`.
    rows, rows_after: of the input, and of the result with copies and weights. distinct_rows: in the result.
    hard_share: hard rows over scored rows.
    effective_rows: Kish's (sum c)^2 / (sum c^2) over the distinct rows, each occurring c times. effective_share:
        effective_rows over distinct_rows; its distance from 1 is the cost of repetition.
    hard, easy: all hard rows, and all other scored rows. clusters: each cluster, and separately rows without one
        (noise, rows that could not be scored, and new rows that were not measured); together these are all rows.
    needed: None if no row is hard, or so many that no number of copies is enough.
    fitted_steps: checkpoints that `Exposure.fall` is fitted to, those of the last e-fold. in_sample: whether the losses
        are of rows that the proxy was trained on; usually true, but not for a model of reference rows.
    missing: missing information, with remedies.
    cautions: measured results of fine-tuning on similar data that speak against copies.
    budget_forecast: predictions from held-out curves to the planned budget; None without them.
    """

    verdict: Verdict
    rows: int
    rows_after: float
    distinct_rows: int
    hard_share: float
    effective_rows: float
    effective_share: float
    hard: Exposure
    easy: Exposure
    clusters: tuple[Exposure, ...]
    needed: Factor | None
    fitted_steps: tuple[int, ...] = ()
    in_sample: bool | None = None
    missing: tuple[str, ...] = ()
    cautions: tuple[RunWarning, ...] = ()
    budget_forecast: BudgetForecast | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, as run.json has them."""
        record = {name: value for name, value in asdict(self).items() if name != "budget_forecast"}
        plain: dict[str, Any] = json.loads(json.dumps(record))  # lists for tuples
        return plain if self.budget_forecast is None else plain | self.budget_forecast.to_json()

    def summary(self) -> Facts:
        """The verdict and the numbers as text."""
        first, *other_lines = lines(self.to_json())
        return Facts(first, tuple(("", line.strip()) for line in other_lines))

    def __repr__(self) -> str:
        return "\n".join(lines(self.to_json()))

    def plot(self) -> Any:
        """A plotly Figure of the relative exposure of each group."""
        return shown(exposures_plot([(group.name, group.steps, group.epochs) for group in self._groups()]))

    def _groups(self) -> list[Exposure]:
        """All hard rows, all other rows, and clusters if there are more than two."""
        numbered = [group for group in self.clusters if group.cluster is not None]
        return [self.hard, self.easy, *(numbered[:_MOST_DRAWN] if len(numbered) > 2 else ())]


def forecast(
    split: Split,
    plan: Plan,
    realized: Sequence[Realized] = (),
    scores: Scores | None = None,
    *,
    order: Order = "shuffle",
    copies: Copies = "rows",
    suspects: float | None = None,
    wrong_share: float | None = None,
    in_sample: bool | None = None,
    budget_forecast: BudgetForecast | None = None,
) -> Forecast:
    """Forecast from a split, a plan and its new rows; no training besides that of `budget_forecast`.

    With a short proxy alone there are only numbers and the verdict "not forecast": curves extrapolated from it never
    said yes where copies did help. Verdicts from held-out curves to the planned budget are in
    `curate.mixture.verdicts`.

    scores: those of the split, joined by id; their trajectory gives the losses of the clusters. order, copies: see
        `curate.Pipeline`. suspects: share of the hard rows whose loss stays high, see `Diagnostics.noise`. wrong_share:
        estimated share of wrong ones. in_sample: whether the losses are of rows that their model was trained on; None =
        not known.
    """
    scores = None if scores is None else join_scores(scores, split.ids)
    exposures, cluster, hard, unmeasured = _rows(split, plan, realized)
    standing = exposures > 0
    batch_share = exposures
    if order == "front" and copies == "weights" and standing.any():  # the weights hold in the first half of the steps
        batch_share = exposures / exposures.sum() + standing / standing.sum()
    # A row of weight 2 takes one place in an epoch like any other.
    epoch = float(standing.sum() if copies == "weights" else exposures.sum() / plan.epochs)
    counted = _Counted(split, scores, exposures, batch_share, epoch)
    clusters = counted.clusters(cluster, hard, unmeasured)
    hard_rows, other_rows = counted.exposures(np.where(cluster <= INVALID, -1, np.where(hard, 0, 1)), 2)
    hard_share = int(split.hard.sum()) / max(1, int(split.valid.sum()))
    kish = effective_share(batch_share[standing]) if standing.any() else 0.0
    unmeasured_new = sum(group.new for group in clusters if group.hard is None)
    return Forecast(
        verdict=NOT_FORECAST if budget_forecast is None else budget_forecast.verdicts[0],
        rows=len(split),
        rows_after=float(exposures.sum()),
        distinct_rows=int(standing.sum()),
        hard_share=hard_share,
        effective_rows=kish * int(standing.sum()),
        effective_share=kish,
        hard=Exposure("hard", **hard_rows, hard=True),
        easy=Exposure("not hard", **other_rows, hard=False),
        clusters=clusters,
        needed=_needed(int(split.hard.sum()), len(split)),
        fitted_steps=() if scores is None or scores.steps is None else tuple(scores.steps[counted.columns].tolist()),
        in_sample=in_sample,
        missing=tuple(missing(scores, len(counted.columns), int(split.hard.sum()), unmeasured_new, order)),
        cautions=tuple(cautions(hard_share, suspects if split.hard.any() else None, wrong_share)),
        budget_forecast=budget_forecast,
    )


class _Counted:
    """Counts over groups of the n input rows and the m new ones.

    seen: (n + m,) occurrences of each row. part: (n + m,) its share of the batches, in any unit. epoch: rows per epoch.
    """

    def __init__(
        self, split: Split, scores: Scores | None, seen: Float64Array, part: Float64Array, epoch: float
    ) -> None:
        self.split, self.scores, self.seen, self.part, self.epoch = split, scores, seen, part, epoch
        steps = None if scores is None or scores.trajectory is None else scores.steps
        self.columns = last_e_fold(() if steps is None else steps)

    def exposures(self, group: IntArray, groups: int) -> list[dict[str, Any]]:
        """Fields of an `Exposure` for each of `groups` groups. group: (n + m,) group of each row, -1 = none."""
        n, total, grouped = len(self.split), float(self.part.sum()), group >= 0
        before = np.bincount(group[:n][grouped[:n]], minlength=groups)  # (groups,)
        new = np.bincount(group[n:][grouped[n:]], minlength=groups)  # (groups,)
        # (groups,) each
        after, parts = (np.bincount(group[grouped], weights[grouped], groups) for weights in (self.seen, self.part))
        losses = _losses(self.scores, self.columns, np.where(self.split.valid, group[:n], -1), groups)
        exposures = []
        for g in range(groups):
            steps = float(parts[g]) * n / (total * int(before[g])) if before[g] and total else None
            exposures.append(
                {
                    "rows": int(before[g]),
                    "rows_after": float(after[g]),
                    "new": int(new[g]),
                    "share": int(before[g]) / n,
                    "share_after": float(parts[g]) / total if total else 0.0,  # a result without rows
                    "steps": steps,
                    "epochs": None if steps is None else steps * self.epoch / n,
                    **losses[g],
                }
            )
        return exposures

    def clusters(self, cluster: IntArray, hard: BoolArray, unmeasured: Sequence[str]) -> tuple[Exposure, ...]:
        """Exposure of each cluster, then of rows without one. cluster, hard, unmeasured: see `_rows`."""
        # A cluster is hard as a whole or not at all, unless a clusterer's small sources are.
        codes, first, group = np.unique(2 * cluster + hard, return_index=True, return_inverse=True)
        split, exposures = self.split, []
        for code, row, fields in zip(codes.tolist(), first.tolist(), self.exposures(group, len(codes)), strict=True):
            number, is_hard = code // 2, None if code // 2 <= _UNMEASURED else bool(code % 2)
            of_source = number >= 0 and row < len(split) and split.per_source and split.sources is not None
            source = split.sources[row] if of_source and split.sources is not None else None
            name = _name(number, source, unmeasured)
            number = number if number >= 0 else None
            exposures.append(Exposure(name, **fields, hard=is_hard, cluster=number, source=source))
        return tuple(sorted(exposures, key=lambda exposure: exposure.cluster is None))


def _rows(
    split: Split, plan: Plan, realized: Sequence[Realized]
) -> tuple[Float64Array, IntArray, BoolArray, list[str]]:
    """(n + m,) occurrences, cluster and hardness of the n input rows followed by the m new ones.

    Also the origins of new rows that were not measured, whose clusters are numbered -3, -4, ...
    """
    parts = [part.rows for part in realized if len(part.rows)]
    unmeasured = list(dict.fromkeys(rows.origin for rows in parts if rows.measured is None))
    clusters, hards = [split.cluster.astype(np.int64)], [split.hard]
    for rows in parts:
        measured = rows.measured
        if measured is None:
            clusters.append(np.full(len(rows), _UNMEASURED - unmeasured.index(rows.origin), np.int64))
            hards.append(np.zeros(len(rows), np.bool_))
        else:
            clusters.append(measured.cluster.astype(np.int64))
            hards.append(measured.hard)
    cluster = np.concatenate(clusters)
    exposures = np.concatenate([plan.counts.astype(np.float64), np.ones(len(cluster) - len(split))])
    return exposures, cluster, np.concatenate(hards), unmeasured


def _name(number: int, source: Any, unmeasured: Sequence[str]) -> str:
    """The name of a cluster number: -1 noise, INVALID not scored, from _UNMEASURED down the origins of new rows."""
    if number <= _UNMEASURED:
        origin = unmeasured[_UNMEASURED - number]
        return origin if origin == "replay" else f"{origin}, not measured"
    if number < 0:
        return "not scored" if number == INVALID else "noise"
    return f"cluster {number}" if source is None else f"cluster {number} of {source}"


def _losses(scores: Scores | None, columns: IntArray, group: IntArray, groups: int) -> list[dict[str, float | None]]:
    """{loss, fall} of each group: mean loss at the last checkpoint, and fall per e-fold. group: (n,), -1 = none."""
    per_group: list[dict[str, float | None]] = [{"loss": None, "fall": None} for _ in range(groups)]
    if scores is None or scores.trajectory is None:
        return per_group
    grouped = group >= 0
    rows = np.bincount(group[grouped], minlength=groups)  # (groups,)
    sums = [np.bincount(group[grouped], column[grouped].astype(np.float64), groups) for column in scores.trajectory.T]
    mean = np.stack(sums, axis=1) / np.maximum(rows, 1)[:, None]  # (groups, K)
    fall = fall_per_e_fold(scores.steps[columns], mean[:, columns]) if len(columns) > 1 else None  # type: ignore[index]
    for g in np.flatnonzero(rows).tolist():
        per_group[g] = {"loss": float(mean[g, -1]), "fall": None if fall is None else float(fall[g])}
    return per_group


def _needed(hard: int, rows: int) -> Factor | None:
    """`Forecast.needed` for `hard` hard rows among `rows` rows."""
    times = factor_for(GAIN, hard / rows) if hard else None
    if times is None:
        return None
    hard_share = hard / rows
    copied_multiple, other_multiple = of_copied(hard_share, times)
    return Factor(times, (times - 1) * hard, copied_multiple, other_multiple, effective(hard_share, times))


def exposures_plot(groups: Sequence[tuple[str, float | None, float | None]]) -> dict[str, Any]:
    """Bars at equal steps and at equal epochs. groups: (name, exposure at equal steps, exposure at equal epochs)."""
    shown_groups = [group for group in groups if group[1] is not None]
    places, names = [*range(len(shown_groups))], [plot_text(name, 30) for name, _, _ in shown_groups]
    data = [
        {
            "type": "bar",
            "name": label,
            "x": places,
            "y": rounded([group[column] or 0.0 for group in shown_groups]),
            "text": names,
            "textposition": "none",
            "marker": {"color": color},
            "hovertemplate": f"%{{text}}: seen ×%{{y:.3g}} as often, {label}<extra></extra>",
        }
        for column, label, color in ((1, "at equal steps", HARD), (2, "at equal epochs", EASY))
    ]
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": GREY, "dash": "dot"}}
    axis = {"tickvals": places, "ticktext": names, "showgrid": False}
    return {"data": data, "layout": framed("rows", "seen ×", xaxis=axis, barmode="group", shapes=[line])}
