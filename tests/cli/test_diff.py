"""`curate diff`: a line for everything that differs, and the same as one JSON object."""

from pathlib import Path

from tests.fixtures.commands import TINY, Call, Finished


def test_two_runs_side_by_side(finished: Finished, call: Call, tmp_path: Path) -> None:
    second = tmp_path / "second"
    ran = call("run", finished.data, "--out", second, "--cache", finished.cache, *TINY, "--set", "augmenters.0.times=3")
    assert ran.status == 0
    done = call("diff", finished.out, second)
    assert done.status == 0
    assert "augmenters.0.times" in done.out
    assert "changed sides: 0" in done.out
    found = call("diff", finished.out, second, "--json").json
    assert found["jaccard"] == 1
    assert found["mixture"]["output"][1] > found["mixture"]["output"][0]
    assert "run.json" in call("diff", finished.out, tmp_path).error
