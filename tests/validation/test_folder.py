"""The folder of a validation: what may change between two calls, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.errors import InputError
from curate.finetuning.config import Finetuning
from tests.fixtures.validation import Trained, rows, sets_of, whole


def test_a_folder_of_another_validation_or_of_anything_else_is_left_alone(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    with pytest.raises(InputError, match=r"another fine-tuning \(epochs\); name another folder, or pass --fresh"):
        whole(tmp_path / "out", seeds=(0,), epochs=5.0)
    with pytest.raises(InputError, match="another dataset"):
        whole(tmp_path / "out", seeds=(0,), held_out=0.4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"other files \(thesis\.txt\)"):
        whole(tmp_path / "mine", seeds=(0,), fresh=True)
    calls = len(trained.calls)
    result = whole(tmp_path / "out", seeds=(0,), epochs=5.0, fresh=True)
    assert len(trained.calls) == 2 * calls
    assert result["epochs"] == 5.0


def test_another_model_of_the_same_size_is_refused_by_name(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    other = Finetuning(model="n", batch_size=10)
    with pytest.raises(InputError, match=r"another model \(m, now n\)"):
        whole(tmp_path / "out", seeds=(0,), finetuning=other)
    assert (tmp_path / "out" / "run.json").is_file()
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["model"]["identity"] == "files:m"


def test_sets_may_be_fewer_or_more_with_more_seeds(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    fewer = whole(tmp_path / "out", sets=(sets["A"],), seeds=(0, 1))
    assert [each["set"] for each in fewer["comparison"]["sets"]] == ["A"]
    both = whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0, 1))
    assert [each["set"] for each in both["comparison"]["sets"]] == ["A", "B"]
    pq.write_table(rows(20, seed=9), tmp_path / "sets" / "B.parquet")
    with pytest.raises(InputError, match="other questions in evaluation set 'B'"):
        whole(tmp_path / "out", sets=(sets["B"],), seeds=(0, 1))
    assert len(trained.calls) == len(set(trained.calls)) == 8


def test_runs_without_weights_are_finished_and_cannot_be_asked_anything_else(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,), keep_weights=False)
    evaluate = trained.evaluate

    def with_weights(target: str, *given: Any, **more: Any) -> None:
        if not (Path(target) / "model" / "model.safetensors").exists():
            raise InputError("the weights are gone; train it again with --fresh")
        evaluate(target, *given, **more)

    monkeypatch.setattr("curate.validation.runs.evaluate", with_weights)
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match=r"evaluation set B: the weights of .*seed0 were deleted by --drop-weights"):
        whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files


def test_a_set_for_which_other_rows_are_dropped_is_refused_and_others_are_not(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    given: dict[str, Any] = {"drop_contaminated": True, "seeds": (0,)}
    assert whole(tmp_path / "out", sets=(sets["A"],), **given)["data"]["rows"] == 93
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match="--drop-contaminated leaves out other rows"):
        whole(tmp_path / "out", sets=(sets["A"], sets["C"]), **given)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), **given)
    assert len(trained.calls) == 4
