"""Scores and splits as plotly figures: what they have numbers for."""

import numpy as np
import pyarrow as pa

from curate.clusterers import KMeans
from curate.difficulty.scores import Scores, as_scores
from curate.difficulty.split import make_split


def test_a_bare_array_is_drawn_as_a_histogram_alone() -> None:
    figure = as_scores(np.arange(10.0), 10).plot()
    assert [trace.type for trace in figure.data] == ["bar"]
    assert sum(figure.data[0].y) == 9  # the last lies beyond the drawn range
    assert as_scores(np.full(3, np.nan), 3).plot().layout.title.text == "No row could be scored."


def test_a_split_is_drawn_with_its_sides_and_the_trajectories_of_its_scores() -> None:
    losses = np.stack([np.full(20, 5.0), np.r_[np.ones(10), np.full(10, 4.0)]], axis=1).astype(np.float32)
    scores = Scores(losses, losses[:, 1], np.ones(20, bool), losses, np.array([1, 9]), np.full(20, 7, np.int32))
    split = make_split(scores.with_ids(pa.array([f"r{k}" for k in range(20)])), KMeans())
    figure = split.plot()
    lines = {trace.name: list(trace.y) for trace in figure.data[:-4] if trace.mode == "lines+markers"}
    assert lines == {"cluster 0 (easy)": [5.0, 1.0], "cluster 1 (hard)": [5.0, 4.0]}
    assert figure.layout.yaxis3.domain[0] == 0
    assert figure.layout.yaxis.domain[1] == 1
