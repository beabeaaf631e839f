"""Plots of loss trajectories and difficulty as plotly figures in plain dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.console.formatting import plot_text
from curate.seeds import derive_seed
from curate.types import BoolArray, Float64Array, FloatArray, IntArray

# The report embeds them in its page; `panels.shown` turns them into plotly figures, which notebooks display.
# Arrays are aggregated or sampled with a seed, so that the size of a plot does not grow with the data.
# Colors have enough contrast on white and on near-black backgrounds; the page sets those of text and grid.

HARD, EASY, GREY = "#d1582f", "#3a83c5", "#7d8590"
_HARD_COLORS = (HARD, "#c2437f", "#a8791c")
_EASY_COLORS = (EASY, "#2a9079", "#7f6fd0")
_MOST_CLUSTERS = 6  # lines with bands that are still distinguishable
_ROWS_PER_GROUP = 10
_MOST_CLUSTER_ROWS = 60  # of the table
POINTS = 1_500
BINS = 60
_WORDS = 60  # characters of a row's text in its tooltip

# Returns the first words of the rows at m ascending positions.
Words = Callable[[IntArray], Sequence[str]]


@dataclass(frozen=True)
class Trajectories:
    """Loss trajectories. steps: (K,) int64 optimizer steps, ascending. losses: (n, K) float32 nats per token."""

    steps: IntArray
    losses: FloatArray


@dataclass(frozen=True, kw_only=True)
class PlottedRows:
    """n rows to plot. ids: (n,) Arrow strings, or None. difficulty: (n,) float32. valid, hard: (n,) bool.

    cluster: (n,) int32, -1 = noise, -2 = invalid. tokens: (n,) int32 completion tokens, or None. split: whether
    the rows have been split into hard and easy; if not, all get one color.
    """

    ids: Any
    difficulty: FloatArray
    valid: BoolArray
    hard: BoolArray
    cluster: Any
    tokens: Any
    trajectories: Trajectories | None
    split: bool = True


@dataclass(frozen=True)
class Group:
    """Rows plotted as one band. rows: (m,) int64 positions. quantiles: (3, K) of the loss at 10, 50 and 90 %."""

    name: str
    hard: bool
    noise: bool
    rows: IntArray
    quantiles: Float64Array


def trajectories(rows: PlottedRows, seed: int, words: Words | None = None) -> dict[str, Any] | str:
    """The plot of loss trajectories, its groups, the first clusters and their number; or why there is no plot."""
    if rows.trajectories is None:
        return "The scores of this run hold no losses, so there are no trajectories to draw."
    shown_groups, clusters = groups(rows, rows.trajectories)
    if not shown_groups:
        return "No scored row has a loss at every checkpoint."
    return {
        "plot": bands(rows, rows.trajectories, shown_groups, seed, words),
        "drawn": shown_groups,
        "clusters": clusters[:_MOST_CLUSTER_ROWS],
        "all": len(clusters),
        "steps": rows.trajectories.steps.tolist(),
    }


def groups(rows: PlottedRows, trajectories: Trajectories) -> tuple[list[Group], list[Group]]:
    """The groups to plot, and all clusters; above `_MOST_CLUSTERS` clusters, the groups are easy and hard rows."""
    usable = rows.valid & np.isfinite(trajectories.losses).all(axis=1) & (rows.cluster >= -1)  # (n,)
    if not rows.split:
        everything = [_group(trajectories, "all rows", False, False, np.flatnonzero(usable))] if usable.any() else []
        return everything, everything
    order = np.flatnonzero(usable)  # (usable rows,)
    order = order[np.argsort(rows.cluster[order], kind="stable")]
    numbers, starts = np.unique(rows.cluster[order], return_index=True)
    clusters = []
    for number, start, end in zip(numbers.tolist(), starts, [*starts[1:], len(order)], strict=True):
        part = order[start:end]
        hard = bool(rows.hard[part].mean() > 0.5)
        name = f"{'noise' if number < 0 else f'cluster {number}'} ({'hard' if hard else 'easy'})"
        clusters.append(_group(trajectories, name, hard, number < 0, part))
    if len(clusters) <= _MOST_CLUSTERS:
        return clusters, clusters
    sides = (("easy rows", False, usable & ~rows.hard), ("hard rows", True, usable & rows.hard))
    sides_drawn = [
        _group(trajectories, name, hard, False, np.flatnonzero(part)) for name, hard, part in sides if part.any()
    ]
    return sides_drawn, clusters


def _sides(rows: PlottedRows) -> list[tuple[str, BoolArray, str]]:
    """(name, rows (n,), color) of easy and hard rows, or of all rows if they are not split."""
    if not rows.split:
        return [("rows", rows.valid, EASY)]
    return [("easy", rows.valid & ~rows.hard, EASY), ("hard", rows.valid & rows.hard, HARD)]


def _labels(rows: PlottedRows, chosen: IntArray, words: Words | None) -> list[str]:
    """Tooltips of the rows at ascending positions `chosen` (m,): first words and id."""
    ids = (
        [f"row {row:,}" for row in chosen.tolist()] if rows.ids is None else rows.ids.take(pa.array(chosen)).to_pylist()
    )
    names = [plot_text(str(row_id)) for row_id in ids]
    if words is None or not len(chosen):
        return names
    return [
        f"{plot_text(text, _WORDS)}<br>{name}" if text else name
        for text, name in zip(words(chosen), names, strict=True)
    ]


def _group(trajectories: Trajectories, name: str, hard: bool, noise: bool, rows: IntArray) -> Group:
    """The group of `rows` (m,) with quantiles of its losses."""
    quantiles = [np.percentile(column[rows], (10, 50, 90)) for column in trajectories.losses.T]
    return Group(name, hard, noise, rows, np.stack(quantiles, axis=1))


def _color(group: Group, number: int) -> str:
    """Warm color for hard, cool for easy, grey for noise. number: index among groups of the same kind."""
    if group.noise:
        return GREY
    palette = _HARD_COLORS if group.hard else _EASY_COLORS
    return palette[number % len(palette)]


def _faint(color: str, alpha: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def rounded(values: npt.ArrayLike) -> list[float]:
    """Round to four significant digits: invisible in a plot, and half the size of the page."""
    return [float(f"{value:.4g}") for value in np.asarray(values, np.float64).tolist()]


def framed(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A plotly layout with axis titles x and y, in the style of all plots. more: further keys of the layout."""
    axis = {"zeroline": False, "automargin": True}
    x_title, y_title = ({"text": title, "font": {"size": 13}} for title in (x, y))
    place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {
        "xaxis": {"title": x_title, **axis, **more.pop("xaxis", {})},
        "yaxis": {"title": y_title, **axis, **more.pop("yaxis", {})},
        "legend": {"orientation": "h", **place, "traceorder": "normal"},
        "margin": {"l": 52, "r": 12, "t": 12, "b": 48},
        "hovermode": "closest",
        **more,
    }


def bands(
    rows: PlottedRows, trajectories: Trajectories, drawn: list[Group], seed: int, words: Words | None = None
) -> dict[str, Any]:
    """Median and 10-90 % band of the loss per group at each checkpoint; a seeded sample of single rows."""
    steps = trajectories.steps.tolist()
    areas, lines, singles = [], [], []
    chosen = [_drawn(group, seed) for group in drawn]
    all_rows = np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    labels = dict(zip(all_rows.tolist(), _labels(rows, all_rows, words), strict=True))  # read in one pass
    bands_per_group = {True: 0, False: 0}
    for group, single in zip(drawn, chosen, strict=True):
        color = _color(group, bands_per_group[group.hard])
        bands_per_group[group.hard] += not group.noise
        low, middle, high = (rounded(row) for row in group.quantiles)
        shared = {"x": steps, "type": "scatter", "legendgroup": group.name}
        edge = {**shared, "mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        areas += [{**edge, "y": low}, {**edge, "y": high, "fill": "tonexty", "fillcolor": _faint(color, 0.16)}]
        lines.append(
            {
                **shared,
                "y": middle,
                "name": group.name,
                "mode": "lines+markers",
                "line": {"color": color, "width": 3, "dash": "solid" if group.hard else "dash"},
                "marker": {"color": color, "size": 8, "symbol": "circle" if group.hard else "square"},
                "hovertemplate": "step %{x}<br>median %{y:.3f} nats per token<extra></extra>",
            }
        )
        singles.append(_singles(trajectories, group, color, single, labels))
    layout = framed("optimizer step", "loss (nats per token)")
    return {"data": [*areas, *singles, *lines], "layout": layout}


def _drawn(group: Group, seed: int) -> IntArray:
    """(m,) positions of a seeded sample of rows to plot individually."""
    generator = np.random.default_rng(derive_seed(seed, "report", "trajectories", group.name))
    return np.sort(generator.choice(group.rows, min(_ROWS_PER_GROUP, len(group.rows)), replace=False))


def _singles(
    trajectories: Trajectories, group: Group, color: str, chosen: IntArray, labels: dict[int, str]
) -> dict[str, Any]:
    """One trace of the trajectories of the rows `chosen` (m,), separated by None."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for row in chosen.tolist():
        x += [*trajectories.steps.tolist(), None]
        y += [*rounded(trajectories.losses[row]), None]
        text += [labels[row]] * (len(trajectories.steps) + 1)
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "text": text,
        "mode": "lines",
        "line": {"color": _faint(color, 0.4), "width": 1},
        "legendgroup": group.name,
        "showlegend": False,
        "hovertemplate": "%{text}<br>step %{x}: %{y:.3f} nats per token<extra></extra>",
    }


def bin_edges(values: FloatArray, bins: int) -> Float64Array:
    """(bins + 1,) edges up to the 99.9th percentile, so that an outlier does not compress all others into one bar."""
    low, high = (float(value) for value in np.percentile(values, (0, 99.9)))
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def histogram(rows: PlottedRows) -> dict[str, Any]:
    """Histogram of the difficulty of valid rows, hard and easy stacked; and the number of rows beyond its range."""
    values = rows.difficulty[rows.valid]
    edges = bin_edges(values, BINS)
    beyond = int((values > edges[-1]).sum())
    bars = []
    for name, side, color in _sides(rows):
        sizes, _ = np.histogram(rows.difficulty[side], edges)
        hatch = {"size": 5, "solidity": 0.3, "fillmode": "overlay", "fgcolor": "#ffffff"}
        shape = {"shape": "/" if name == "hard" else "", **hatch}
        bars.append(
            {
                "type": "bar",
                "name": name,
                "x": ((edges[:-1] + edges[1:]) / 2).tolist(),
                "y": sizes.tolist(),
                "marker": {"color": color, "pattern": shape, "line": {"width": 0}},
                "width": float(edges[1] - edges[0]),
                "hovertemplate": "%{y:,} rows at about %{x:.3f}<extra>" + name + "</extra>",
            }
        )
    layout = framed("difficulty", "rows", barmode="stack", bargap=0)
    return {"plot": {"data": bars, "layout": layout}, "beyond": beyond}


def _log_axis(values: IntArray) -> dict[str, Any]:
    """Log axis with at least three ticks where the values allow it: of plotly's powers of ten, a plot may show none.

    Ticks are 1, 3, 10, 30, ... or, where these are too few between the extremes, 1, 2, 5, ... or equal steps.
    """
    low, high = (int(values.min()), int(values.max())) if len(values) else (1, 10)
    for digits in ((1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10**power for power in range(9) for digit in digits]
        if sum(low <= tick <= high for tick in ticks) >= 3:
            break
    else:
        step = max(1, (high - low) // 4)
        ticks = list(range(low, high + 1, step))
    visible = [tick for tick in ticks if low / 2 <= tick <= high * 2]
    return {"type": "log", "tickvals": visible, "ticktext": [f"{tick:,}" for tick in visible]}


def lengths(rows: PlottedRows, seed: int, words: Words | None = None) -> dict[str, Any] | str:
    """Plot of difficulty against completion tokens for a seeded sample of valid rows, and the sample's size.

    A string that says why if there is no plot.
    """
    tokens = rows.tokens
    if tokens is None:
        return "The scores of this run hold no token counts."
    scored = np.flatnonzero(rows.valid & (tokens > 0))
    generator = np.random.default_rng(derive_seed(seed, "report", "lengths"))
    sample = np.sort(generator.choice(scored, min(POINTS, len(scored)), replace=False))  # (s,)
    labels = np.array(_labels(rows, sample, words), dtype=object)  # (s,)
    clouds = []
    for name, side, color in _sides(rows):
        inside = side[sample]
        part = sample[inside]
        clouds.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": tokens[part].tolist(),
                "y": rounded(rows.difficulty[part]),
                "text": labels[inside].tolist(),
                "customdata": part.tolist(),
                "marker": {
                    "color": color,
                    "size": 5,
                    "opacity": 0.6,
                    "symbol": "circle" if name == "hard" else "square-open",
                },
                "hovertemplate": "%{text}<br>%{x:,} tokens, difficulty %{y:.3f}<extra></extra>",
            }
        )
    layout = framed("completion tokens (log scale)", "difficulty", xaxis=_log_axis(tokens[sample]))
    return {"plot": {"data": clouds, "layout": layout}, "sample": len(sample), "scored": int(rows.valid.sum())}
