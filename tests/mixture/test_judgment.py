"""The record of the judgment decides whether verdicts are shown, and is what judging the study gives."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.when import forecast as study
from curate.mixture.judgment import judgment, judgment_from

RECORD = json.loads(study.JUDGMENT.read_text(encoding="utf-8"))


def _with(**gains: list[float]) -> dict[str, Any]:
    outcomes = {name: {**each, "gain": gains.get(name, each["gain"])} for name, each in RECORD["outcomes"].items()}
    return {**RECORD, "outcomes": outcomes}


def test_the_rule_is_the_one_that_was_frozen() -> None:
    frozen = json.loads(study.FROZEN.read_text(encoding="utf-8"))["rule"]
    found = judgment()
    assert {name: getattr(found, name) for name in frozen} == frozen
    assert found.times == study.FACTOR


def test_a_verdict_is_shown_where_the_lower_bound_of_the_gain_is_above_zero() -> None:
    assert judgment_from(_with(loss=[0.05, 0.01, 0.1])).shown == ("loss",)
    assert judgment_from(_with(loss=[0.05, 0.0, 0.1], answers=[0.01, 0.001, 0.02])).shown == ("answers",)
    assert judgment_from(_with(loss=[0.05, -0.01, 0.1])).shown == ()


def test_the_committed_record_is_what_judging_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in Path("benchmarks/results/when").glob("*.jsonl"):
        (tmp_path / place.name).symlink_to(place.absolute())
    monkeypatch.setattr(study, "JUDGMENT", tmp_path / "judgment.json")
    assert study.main(["--judge", "--records", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "judgment.json").read_text()) == RECORD
