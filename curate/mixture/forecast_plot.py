"""The plot of a forecast: how often each group of rows is seen, against the data as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.console.formatting import plot_text
from curate.difficulty.figures import EASY, GREY, HARD, framed, rounded


def exposures_plot(groups: Sequence[tuple[str, float | None, float | None]]) -> dict[str, Any]:
    """Bars at equal steps and at equal epochs. groups: (name, times as often at equal steps, at equal epochs)."""
    drawn = [group for group in groups if group[1] is not None]
    places, names = [*range(len(drawn))], [plot_text(name, 30) for name, _, _ in drawn]
    data = [
        {
            "type": "bar",
            "name": label,
            "x": places,
            "y": rounded([each[column] or 0.0 for each in drawn]),
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
