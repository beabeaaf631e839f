"""Plots of scores and splits as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.difficulty.figures import PlottedRows, Words, histogram, lengths, trajectories


def panels(rows: PlottedRows, seed: int = 0, words: Words | None = None) -> Any:
    """A Figure of loss trajectories, the histogram of difficulty, and difficulty against length.

    Plots without data are omitted.
    """
    if not rows.valid.any():
        return shown({"data": [], "layout": {"title": {"text": "No row could be scored."}}})
    plots = [trajectories(rows, seed, words), histogram(rows), lengths(rows, seed, words)]
    return shown(stacked([plot["plot"] for plot in plots if isinstance(plot, dict)]))


def stacked(plots: Sequence[dict[str, Any]], gap: float = 0.11) -> dict[str, Any]:
    """Stack plots vertically into one; only the first has a legend. gap: between plots, as a share of the height."""
    height = (1 - gap * (len(plots) - 1)) / len(plots)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"height": 60 + 300 * len(plots)}
    for number, plot in enumerate(plots, 1):
        k = "" if number == 1 else str(number)
        top = 1 - (number - 1) * (height + gap)
        data += [
            {**trace, "xaxis": f"x{k}", "yaxis": f"y{k}", **({} if number == 1 else {"showlegend": False})}
            for trace in plot["data"]
        ]
        plot_layout = plot["layout"]
        layout |= {
            name: value for name, value in plot_layout.items() if name not in ("xaxis", "yaxis") and name not in layout
        }
        layout[f"xaxis{k}"] = {**plot_layout["xaxis"], "anchor": f"y{k}"}
        layout[f"yaxis{k}"] = {**plot_layout["yaxis"], "anchor": f"x{k}", "domain": [max(0.0, top - height), top]}
        layout |= {name: plot_layout[name] for name in ("barmode", "bargap") if name in plot_layout}
    return {"data": data, "layout": layout}


def shown(plot: dict[str, Any], height: int | None = None) -> Any:
    """The plot as a plotly Figure, which notebooks display; `.show()` opens it elsewhere. height: in pixels."""
    from plotly.graph_objects import Figure

    layout = {"template": "plotly_white", **plot["layout"], **({} if height is None else {"height": height})}
    return Figure({"data": plot["data"], "layout": layout})
