"""The figures of the report hold every row, or a seeded sample that says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.console.formatting import as_json
from curate.difficulty import figures
from curate.difficulty.figures import Trajectories
from curate.report.finished_run import Rows
from tests.fixtures.reports import page_of, rows_of

# ---- plots


def test_the_histogram_holds_every_scored_row(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    rows = replace(rows, difficulty=np.where(np.arange(400) == 0, 1e6, rows.difficulty).astype(np.float32))
    found = figures.histogram(rows)
    drawn = {bar["name"]: sum(bar["y"]) for bar in found["plot"]["data"]}
    assert found["beyond"] == 1
    assert drawn == {"easy": int((rows.valid & ~rows.hard).sum()), "hard": int(rows.hard.sum()) - 1}


def test_bands_are_the_quantiles_of_the_cluster(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    drawn, clusters = figures.groups(rows, rows.trajectories)
    assert drawn == clusters
    assert [(group.name, group.hard, len(group.rows)) for group in drawn] == [
        ("cluster 0 (easy)", False, 312),
        ("cluster 1 (hard)", True, 80),
    ]
    for group in drawn:
        oracle = np.quantile(rows.trajectories.losses[rows.valid & (rows.hard == group.hard)], (0.1, 0.5, 0.9), axis=0)
        np.testing.assert_allclose(group.quantiles, oracle, rtol=1e-5)


def test_many_clusters_are_drawn_as_two_and_listed_in_full(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    cluster = np.where(rows.valid, 2 * (np.arange(400) % 7) + rows.hard, -2)
    cluster[rows.valid & ~rows.hard & (np.arange(400) % 11 == 0)] = -1
    drawn, clusters = figures.groups(replace(rows, cluster=cluster), rows.trajectories)
    assert [group.name for group in drawn] == ["easy rows", "hard rows"]
    assert len(clusters) == 15
    assert clusters[0].name == "noise (easy)"
    assert sum(len(group.rows) for group in clusters) == sum(len(group.rows) for group in drawn) == 392


def test_plots_are_sampled_with_the_seed_and_bounded() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    rows = Rows(
        ids=pa.array([f"r{i}" for i in range(n)], pa.large_string()),
        difficulty=rng.random(n).astype(np.float32),
        valid=np.ones(n, bool),
        hard=np.arange(n) % 2 == 0,
        cluster=np.arange(n) % 2,
        noise_suspect=None,
        reducible=None,
        source=None,
        source_names=(),
        tokens=rng.integers(1, 500, n),
        copies=None,
        left_out=(),
        trajectories=Trajectories(np.array([1, 2]), rng.random((n, 2)).astype(np.float32)),
    )
    assert rows.trajectories is not None
    drawn, _ = figures.groups(rows, rows.trajectories)
    for seed in (0, 1):
        lengths = figures.lengths(rows, seed)
        assert not isinstance(lengths, str)
        assert lengths["sample"] == figures.POINTS == sum(len(cloud["x"]) for cloud in lengths["plot"]["data"])
        assert lengths == figures.lengths(rows, seed)
        assert lengths != figures.lengths(rows, seed + 1)
        bands = figures.bands(rows, rows.trajectories, drawn, seed)
        assert bands == figures.bands(rows, rows.trajectories, drawn, seed)
        assert len(as_json(bands)) < 20_000


def test_the_figures_are_valid_plotly(finished_run: Path) -> None:
    import plotly.graph_objects as go

    page = page_of(finished_run)
    figures = json.loads(next(text for attributes, text in page.scripts if "type" in attributes))
    assert list(figures) == ["plot-trajectories", "plot-difficulty", "plot-lengths"]
    for name, figure in figures.items():
        go.Figure(data=figure["data"], layout=figure["layout"])
        assert ("div", name) in {(tag, attributes.get("id")) for tag, attributes in page.elements}


@pytest.mark.parametrize(("shortest", "longest"), [(12, 38), (1, 4_000), (100, 104), (300, 2_000), (7, 7)])
def test_lengths_of_any_range_have_ticks(shortest: int, longest: int) -> None:
    axis = figures._log_axis(np.array([longest, shortest]))
    inside = [tick for tick in axis["tickvals"] if shortest <= tick <= longest]
    assert 3 <= len(inside) <= 9 or len(inside) == longest - shortest + 1
    assert axis["ticktext"][axis["tickvals"].index(inside[-1])] == f"{inside[-1]:,}"
