"""Plots of the comparison page, as plotly figures in plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.comparison.runs import Groups
from curate.comparison.text import UNITS, interval, signed
from curate.console.formatting import plot_text
from curate.difficulty.figures import GREY, HARD, framed, rounded
from curate.types import Float64Array

MOST_DRAWN = 16  # rows in one forest plot
_BETTER = "#2a9079"
_COLORS = (HARD, "#3a83c5", "#2a9079", "#a8791c", "#7f6fd0", "#c2437f", "#5b8c2a", "#996644")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
_VERDICTS = {
    "better": (_BETTER, "circle"),
    "worse": (HARD, "square"),
    "no evidence": (GREY, "circle-open"),
    "one seed": (GREY, "diamond-open"),
}
_ROW_HEIGHT = 42
_POINTS = 120  # at most, per curve


@dataclass(frozen=True)
class Curve:
    """One run: tokens seen (m,), training loss (m,) in nats per token, gradient norm (m,); long runs are averaged."""

    arm: str
    budget: str | None
    seed: int
    tokens: Float64Array
    loss: Float64Array
    gradient_norm: Float64Array


def arm_colors(arms: Sequence[str], baseline: str) -> dict[str, tuple[str, str]]:
    """Color and dash of each arm, the same in every plot; the baseline is grey."""
    compared = [arm for arm in arms if arm != baseline]
    palette = {arm: (_COLORS[k % len(_COLORS)], _DASHES[k % len(_DASHES)]) for k, arm in enumerate(compared)}
    return {baseline: (GREY, "solid"), **palette}


def forest(rows: Sequence[dict[str, Any]], metric: str, *, budgets: bool) -> tuple[dict[str, Any], int]:
    """A forest plot: differences with their intervals, one per row, colored by verdict; and the height it needs.

    The figure's "narrow" entry holds layout changes for narrow screens.
    """
    scale = 100 if metric == "accuracy" else 1
    sets = len({row["set"] for row in rows}) > 1
    labels, names = [], []
    for place, row in enumerate(rows):
        budget = f" ({row['budget'] or 'as run'})" if budgets else ""
        label = plot_text(f"{row['arm']}{budget}" + (f" · {row['set']}" if sets else ""), 44)
        # On a narrow screen labels go above their interval: beside it, they would take half of the width.
        place_of = {"xref": "paper", "x": 0, "xanchor": "left", "y": place, "yshift": 13, "showarrow": False}
        names.append(f"<b>{label}</b>" if row["primary"] else label)
        labels.append({**place_of, "text": names[-1]})
    data: list[dict[str, Any]] = []
    for verdict, (color, symbol) in _VERDICTS.items():
        part = [k for k, row in enumerate(rows) if row["verdict"] == verdict]
        if not part:
            continue
        middle, reach = _intervals([rows[k] for k in part], scale)
        text = [f"{signed(metric, rows[k]['difference'])} ({interval(metric, rows[k])})" for k in part]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verdict,
                "x": middle,
                "y": part,
                "text": text,
                "error_x": {**reach, "color": color, "thickness": 2, "width": 5},
                "marker": {"color": color, "size": 10, "symbol": symbol, "line": {"color": color, "width": 2}},
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    places = {"tickvals": [*range(len(rows))], "ticktext": names, "ticklabelstandoff": 8}
    axis = {**places, "range": [len(rows) - 0.5, -0.9], "showgrid": False}
    line = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1.5}}
    # 0.0002 and not 200µ, as in the tables.
    x_axis = {"tickangle": 0, "exponentformat": "none"}
    layout = framed(UNITS[metric], "", xaxis=x_axis, yaxis=axis, shapes=[line])
    layout["margin"]["l"] = 12
    narrow = {"yaxis.showticklabels": False, "annotations": labels}
    return {"data": data, "layout": layout, "narrow": narrow}, 110 + _ROW_HEIGHT * len(rows)


def _intervals(rows: Sequence[dict[str, Any]], scale: int = 1) -> tuple[list[float], dict[str, Any]]:
    """The differences of the rows times `scale`, with error bars from low to high."""
    middle, low, high = (np.array([row[key] for row in rows]) * scale for key in ("difference", "low", "high"))
    reach = {"array": rounded(high - middle), "arrayminus": rounded(middle - low)}
    return rounded(middle), {"type": "data", "symmetric": False, **reach}


def curves_of(groups: Groups) -> tuple[Curve, ...]:
    result = []
    for budget, members in groups.items():
        for arm, runs in members.items():
            for seed, run in sorted(runs.items()):
                tokens, loss, norm = (_column(run.metrics, name) for name in ("tokens", "loss", "gradient_norm"))
                if len(tokens):
                    result.append(Curve(arm, budget, seed, *(_shortened(column) for column in (tokens, loss, norm))))
    return tuple(result)


def _column(lines: Sequence[Mapping[str, Any]], name: str) -> Float64Array:
    return np.array([np.nan if line.get(name) is None else line[name] for line in lines], np.float64)


def _shortened(values: Float64Array) -> Float64Array:
    if len(values) <= _POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, _POINTS)])


def curves(runs: Sequence[Curve], metric: str, colors: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """One line per run over the tokens seen. metric: "loss" or "gradient_norm"."""
    data = []
    sources_shown: set[str] = set()
    for curve in runs:
        values: Float64Array = curve.loss if metric == "loss" else curve.gradient_norm
        finite = np.isfinite(values) & np.isfinite(curve.tokens)  # (m,)
        if not finite.any():
            continue
        color, dash = colors[curve.arm]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": plot_text(curve.arm, 30),
                "legendgroup": plot_text(curve.arm, 30),
                "showlegend": curve.arm not in sources_shown,
                "x": curve.tokens[finite].tolist(),
                "y": rounded(values[finite]),
                "line": {"color": color, "width": 1.6, "dash": dash},
                "opacity": 0.85,
                "hovertemplate": f"{plot_text(curve.arm, 30)}, seed {curve.seed}<br>%{{x:,}} tokens: %{{y:.4f}}"
                "<extra></extra>",
            }
        )
        sources_shown.add(curve.arm)
    title = "training loss (nats per token)" if metric == "loss" else "gradient norm"
    return {"data": data, "layout": framed("tokens seen", title)}


def bars(
    rows: Sequence[dict[str, Any]], label: str, baseline: str, colors: dict[str, tuple[str, str]]
) -> dict[str, Any]:
    """Accuracy by level or source of one set at one budget, one bar per arm, the baseline first.

    For nll, the differences to the baseline with their intervals: they are small compared with the losses.
    """
    metric = rows[0]["metric"]
    if metric == "nll":
        return _difference_bars(rows, label, colors)
    names = list(dict.fromkeys(row[label] for row in rows))
    by_arm: dict[str, dict[str, float]] = {baseline: {row[label]: row["baseline_mean"] for row in rows}}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row[label]] = row["arm_mean"]
    labels = [plot_text(name, 24) for name in names]
    data = [
        {
            "type": "bar",
            "name": plot_text(arm, 30),
            "x": [*range(len(names))],
            "y": [None if name not in means else float(f"{100 * means[name]:.4g}") for name in names],
            "text": labels,
            "textposition": "none",
            "marker": {"color": colors[arm][0]},
            "hovertemplate": f"{plot_text(arm, 30)}, %{{text}}: %{{y}}<extra></extra>",
        }
        for arm, means in by_arm.items()
    ]
    return _grouped(data, label, "accuracy (%)", labels)


def _difference_bars(rows: Sequence[dict[str, Any]], label: str, colors: dict[str, tuple[str, str]]) -> dict[str, Any]:
    names = list(dict.fromkeys(row[label] for row in rows))
    labels = [plot_text(name, 24) for name in names]
    data: list[dict[str, Any]] = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        by_label = {row[label]: row for row in rows if row["arm"] == arm}
        places = [place for place, name in enumerate(names) if name in by_label]
        shown = [by_label[names[place]] for place in places]
        middle, reach = _intervals(shown)
        text = [
            f"{labels[k]}: {signed('nll', row['difference'])} ({interval('nll', row)})"
            for k, row in zip(places, shown, strict=True)
        ]
        data.append(
            {
                "type": "bar",
                "name": plot_text(arm, 30),
                "x": places,
                "y": middle,
                "text": text,
                "textposition": "none",
                "error_y": {**reach, "color": GREY, "thickness": 1.5, "width": 3},
                "marker": {"color": colors[arm][0]},
                "hovertemplate": f"{plot_text(arm, 30)}, %{{text}}<extra></extra>",
            }
        )
    return _grouped(data, label, "difference (nats per token)", labels)


def _grouped(data: list[dict[str, Any]], label: str, y: str, labels: list[str]) -> dict[str, Any]:
    axis = {"tickvals": [*range(len(labels))], "ticktext": labels, "showgrid": False}
    layout = framed(label, y, xaxis=axis, yaxis={"exponentformat": "none"}, barmode="group")
    return {"data": data, "layout": layout}
