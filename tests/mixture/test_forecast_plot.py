"""The bars of a forecast are its numbers; a group that is not in the input has none."""

from curate.mixture.forecast_plot import exposures_plot


def test_bars_are_the_exposures() -> None:
    plot = exposures_plot([("hard", 1.5, 3.0), ("new <b>", None, None), ("not hard", 0.75, 1.0)])
    assert [trace["y"] for trace in plot["data"]] == [[1.5, 0.75], [3.0, 1.0]]
    assert plot["layout"]["xaxis"]["ticktext"] == ["hard", "not hard"]
    assert "<b>" not in str(exposures_plot([("new <b>", 1.0, 1.0)]))
