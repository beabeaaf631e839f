"""Draw the figure of the README: loss trajectories of easy and hard examples of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

_DETAILS = """\
python -m benchmarks.trajectories demo/curated docs/trajectories.svg      (after `curate demo`)
"""

MOST_LINES = 60  # examples drawn of each kind, a seeded sample
COLORS = {"easy": "#4c78a8", "hard": "#d1495b"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 300, 56, 44, 28, 120


def main() -> None:
    """Read the tables of a run and write the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    table = pq.read_table(options.run / "tables" / "trajectories.parquet")
    split = pq.read_table(options.run / "tables" / "split.parquet", columns=["example_id", "hard"])
    names = [name for name in table.column_names if name.startswith("loss_")]
    steps = np.array([int(name.removeprefix("loss_")) for name in names])  # (K,)
    losses = np.stack([table[name].to_numpy() for name in names], axis=1)  # (n, K) nats per token
    hard_of = dict(zip(split["example_id"].to_pylist(), split["hard"].to_pylist(), strict=True))
    hard = np.array([hard_of[each] for each in table["example_id"].to_pylist()])  # (n,)
    options.out.write_text(figure(steps, losses, hard), encoding="utf-8")


def figure(steps: np.ndarray, losses: np.ndarray, hard: np.ndarray) -> str:
    """The SVG. steps: (K,); losses: (n, K); hard: (n,) bool."""
    top = float(np.nanquantile(losses, 0.995))
    inside = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def point(step: float, loss: float) -> str:
        x = LEFT + inside[0] * (step - steps[0]) / (steps[-1] - steps[0])
        return f"{x:.1f},{TOP + inside[1] * (1 - min(loss, top) / top):.1f}"

    random = np.random.default_rng(0)
    parts = []
    for name, mask in (("easy", ~hard), ("hard", hard)):
        rows = np.flatnonzero(mask)
        drawn = random.choice(rows, min(MOST_LINES, len(rows)), replace=False)
        for row in drawn:
            line = " ".join(point(s, v) for s, v in zip(steps, losses[row], strict=True))
            parts.append(f'<polyline points="{line}" stroke="{COLORS[name]}" stroke-width="1" opacity="0.22"/>')
    for name, mask in (("easy", ~hard), ("hard", hard)):
        mean = np.nanmean(losses[mask], axis=0)  # (K,)
        line = " ".join(point(s, v) for s, v in zip(steps, mean, strict=True))
        parts.append(f'<polyline points="{line}" stroke="{COLORS[name]}" stroke-width="3.5"/>')
        x, y = point(steps[-1], mean[-1]).split(",")
        label = f"{name} ({int(mask.sum()):,})"
        parts.append(f'<text x="{float(x) + 10:.0f}" y="{float(y) + 5:.0f}" fill="{COLORS[name]}">{label}</text>')
    for step in steps:
        x = point(step, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{int(step)}</text>')
    for value in np.arange(0, top, 0.5):
        y = float(point(steps[0], value).split(",")[1])
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    middle = LEFT + inside[0] / 2
    lines = "".join(part for part in parts if "polyline" in part)
    rest = "".join(part for part in parts if "polyline" not in part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<g fill="#444">{rest}<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">optimizer steps of the proxy'
        f'</text><text x="{LEFT - 44}" y="16">loss, nats per token</text></g><g fill="none">{lines}</g></svg>\n'
    )


if __name__ == "__main__":
    main()
