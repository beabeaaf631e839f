"""What a validation would do, before and after it has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.errors import ExternalError
from curate.finetuning.config import Finetuning
from curate.optimizers import SAM
from curate.tokenization.encoding import tokenize
from curate.tokenization.templates import resolve_template
from curate.validation.estimate import estimate_runs
from curate.validation.validate import prepare_experiment
from tests.fixtures.tokenizers import byte_level
from tests.fixtures.validation import Trained, loaded, settings, whole


def test_a_plan_knows_more_as_the_work_goes_on_and_changes_nothing(tmp_path: Path, trained: Trained) -> None:
    given = settings(arms=("hard", "sam"), held_out=0.3)
    out = tmp_path / "out"

    def plan() -> dict[str, Any]:
        return estimate_runs(prepare_experiment(loaded(), given, out, cache=tmp_path / "cache", dry=True))

    before = plan()
    assert not out.exists()
    assert [each["known"] for each in before["arms"]] == [True, False, True]
    assert before["seconds_left"] is None
    assert before["runs_left"] == 2 * 4
    left = prepare_experiment(loaded(), given, out, cache=tmp_path / "cache", dry=True).prepared.loaded.examples
    text = resolve_template("auto", left.shape, False)  # the text around a prompt counts too
    per_row = len(tokenize(left, byte_level(vocabulary=300), template=text, max_length=512).ids) / len(left)
    assert per_row > 100
    first = before["runs"][0]
    assert first["tokens"] == round(first["steps"] * 10 * per_row)
    passes = {run["arm"]: run["gradients_per_step"] for run in before["runs"]}
    assert passes == {"original": 1, "hard": 1, "sam": 2}
    sharp = settings(arms=("hard",), held_out=0.3, finetuning=Finetuning(model="m", batch_size=10, optimizer=SAM()))
    doubled = estimate_runs(
        prepare_experiment(loaded(), sharp, tmp_path / "sharp", cache=tmp_path / "cache", dry=True)
    )["runs"][0]
    assert doubled["gradients_per_step"] == 2
    assert doubled["tokens"] == pytest.approx(2 * first["tokens"], abs=1)
    trained.fails_before = 6
    with pytest.raises(ExternalError):
        whole(out, arms=("hard", "sam"))
    files = sorted(path for path in out.rglob("*"))
    after = plan()
    assert sorted(path for path in out.rglob("*")) == files
    assert all(each["known"] for each in after["arms"])
    assert after["runs_left"] == 2
    assert after["seconds_left"] > 0
    assert {each["metric"] for each in after["detectable"]} == {"nll"}
    assert after["detectable"][0]["absolute"] > 0
