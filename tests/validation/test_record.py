"""What a validation leaves: runs that stand for two budgets, weights that go, a comparison and a record."""

from __future__ import annotations

import json
from pathlib import Path

from curate.storage.records import read_record
from curate.validation.record import drop_weights, link_run
from tests.fixtures.validation import Trained, whole


def test_a_run_at_a_second_budget_is_the_same_run_with_linked_weights(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    runs = tmp_path / "out" / "runs"
    first, second = runs / "hard-steps-seed0", runs / "hard-epochs-seed0"
    record, linked = (read_record(place / "run.json", "rerun") for place in (first, second))
    assert linked == {**record, "budget": "epochs", "same_as": first.name}
    assert (second / "model").resolve() == (first / "model").resolve()
    for name in ("metrics.jsonl", "evaluation/held-out/summary.json"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
        assert not (second / name).is_symlink()


def test_only_weights_go(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    run = tmp_path / "out" / "runs" / "hard-steps-seed0"
    before = {path for path in run.rglob("*") if path.is_file()}
    drop_weights(run)
    assert before - {path for path in run.rglob("*") if path.is_file()} == {run / "model" / "model.safetensors"}
    link_run(run, tmp_path / "out" / "runs" / "again", "epochs")  # a finished run still


def test_run_json_and_the_comparison_say_the_same(tmp_path: Path, trained: Trained) -> None:
    result = whole(tmp_path / "out", seeds=(0,))
    assert read_record(tmp_path / "out" / "run.json", "rerun", "validation") == json.loads(json.dumps(result))
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == result["comparison"]
    assert list(result["arms"]) == ["original", "hard", "random"]
