"""The study of reducible rows: its settings, one small run, its record and page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.when import reducible
from benchmarks.when.families import FAMILIES, families
from curate.errors import InputError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the family symbols, with few rows."""
    monkeypatch.setattr(reducible, "FAMILIES", {"symbols": FAMILIES["symbols"]})
    monkeypatch.setattr(reducible, "NOISES", (0.15,))
    monkeypatch.setitem(reducible.ROWS, "symbols", 800)


@pytest.mark.usefixtures("small")
def test_every_setting_differs_in_what_is_known_and_planted() -> None:
    found = reducible.settings()
    assert [(each.knows, each.noise, each.rows) for each in found] == [("nothing", 0.15, 800), ("frequent", 0.15, 800)]
    assert all(each.share == 0.1 and each.unlearnable == 0 for each in found)


def test_only_the_families_that_are_asked_for_need_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {name: family for name, family in families(Path("nowhere")).items() if name != "symbols"}
    monkeypatch.setattr(reducible, "FAMILIES", absent)
    assert {each.family for each in reducible.settings(["text"])} == {"text"}
    with pytest.raises(InputError, match="leave its family out"):
        reducible.settings()
    with pytest.raises(SystemExit):
        reducible.main(["--out", "x", "--families", "txet"])


@pytest.mark.usefixtures("small")
def test_a_run_is_recorded_once_and_the_page_is_made_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "records" / "reducible.json"
    command = ["--out", str(tmp_path / "out"), "--record", str(record), "--seeds", "0"]
    assert reducible.main(command) == 0
    runs = json.loads(record.read_text())["runs"]
    assert [each["knows"] for each in runs] == ["nothing", "frequent"]
    for each in runs:
        assert 0 < each["true_wrong_share"] < 1
        assert each["verdict"] in ("estimated", "cannot tell")
        assert (each["wrong_share"] is None) == (each["verdict"] == "cannot tell")
    monkeypatch.setattr(reducible, "run", lambda *_: pytest.fail("a run was repeated"))
    assert reducible.main(command) == 0
    page = record.with_suffix(".md").read_text()
    assert reducible.main(["--table", "--record", str(record)]) == 0
    assert record.with_suffix(".md").read_text() == page
    assert page.count("| symbols |") == 3  # two runs and their summary


@pytest.mark.usefixtures("small")
def test_runs_that_time_does_not_allow_are_left(tmp_path: Path) -> None:
    record = tmp_path / "reducible.json"
    command = ["--out", str(tmp_path), "--record", str(record), "--time-limit", "-1"]
    assert reducible.main(command) == 3
    assert not record.exists()


@pytest.mark.usefixtures("small")
def test_estimates_are_counted_against_the_truth() -> None:
    shares = {"hard": 0.5, "easy": 0.9, "null": 0.1}
    run = {"family": "symbols", "knows": "nothing", "noise": 0.15, "training_rows": 800, "seed": 0, "hard_share": 0.2}
    run |= {"true_wrong_share": 0.5, "above_cut": {"hard, right": 0.8, "hard, wrong": 0.1}, "shares": shares}
    run |= {"verdict": "estimated", "wrong_share": 0.55, "interval": [0.45, 0.6], "reason": ""}
    off = run | {"seed": 1, "wrong_share": 0.8, "interval": [0.7, 0.9]}
    untold = run | {"seed": 2, "verdict": "cannot tell", "wrong_share": None, "interval": None, "reason": "too few"}
    text = reducible.page([run, off, untold])
    assert "| symbols | 3 | 2 | 1 | 1 | +0.18 | 0.80, 0.10 |" in text
    assert "- symbols, 15%, seed 2: too few." in text


def test_settings_are_of_every_family_that_is_there() -> None:
    noises: dict[str, set[float]] = {}
    for setting in reducible.settings():
        noises.setdefault(setting.family, set()).add(setting.noise)
    assert noises == {name: {0.0, 0.05, 0.15} for name in FAMILIES}
