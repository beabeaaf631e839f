"""Plot of a forecast: relative exposure of each group of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.console.formatting import plot_text
from curate.difficulty.figures import EASY, GREY, HARD, framed, rounded


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
