"""`curate plan`: what a run would cost and what the cache holds."""

import json
from pathlib import Path

from tests.fixtures.commands import TINY, Call, Finished


def test_plan_runs_nothing_and_says_what_is_there(finished: Finished, tmp_path: Path, call: Call) -> None:
    empty = tmp_path / "cache"
    first = call("plan", finished.data, *TINY, "--cache", empty, "--out", tmp_path / "out", "--json")
    assert first.status == 0
    assert first.json["rows_in"] == 40
    assert first.json["rows_out"] is None
    assert {stage["stage"] for stage in first.json["stages"]} >= {"read", "train the proxy", "measure", "write"}
    assert {path.name for path in empty.iterdir()} == {"matrix-rates", "rows"}  # no model, and no loss
    assert not (tmp_path / "out").exists()
    later = call("plan", finished.data, *finished.arguments, "--out", finished.out, "--json")
    record = json.loads((finished.out / "run.json").read_text())
    assert later.json["rows_out"] == record["counts"]["output"]
    assert "nothing to do" in " ".join(later.json["notes"])
    shown = call("plan", finished.data, *finished.arguments)
    assert shown.status == 0
    assert " yes " in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80
