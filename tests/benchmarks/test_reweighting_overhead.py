"""What the overhead benchmark makes of the seconds it measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reweighting_overhead import Variant, compared, main, overhead, parsed, random_rows, variants


def test_overhead_is_the_median_ratio_whatever_the_machine_does_to_both() -> None:
    random = np.random.default_rng(0)
    plain = random.lognormal(0, 1, 40)  # load that hits both runs of a step
    found = overhead((plain * 1.02).tolist(), plain.tolist(), Variant(object(), limit=0.03))
    assert found["median"] == pytest.approx(0.02)
    assert found["quartiles"] == pytest.approx([0.02, 0.02])
    assert found["within"]
    assert not overhead((plain * 1.04).tolist(), plain.tolist(), Variant(object(), limit=0.03))["within"]


def test_a_look_at_the_model_is_shared_out_over_the_steps_between_two() -> None:
    plain = [2.0] * 20
    seconds = [2.1 + (6.0 if step % 10 == 0 else 0.0) for step in range(20)]
    found = overhead(seconds, plain, Variant(object(), period=10, spread=10))
    assert found["look"] == pytest.approx(3.0)  # 6 seconds are three steps
    assert found["median"] == pytest.approx(0.05 + 3.0 / 10)
    assert found["within"] is None
    # That is what the run as a whole took longer.
    assert found["median"] == pytest.approx(sum(seconds) / sum(plain) - 1)
    rare = overhead(seconds, plain, Variant(object(), period=10, spread=100))
    assert rare["median"] == pytest.approx(0.05 + 3.0 / 100)


def test_runs_are_compared_with_one_of_as_many_parts_and_limits_are_those_named() -> None:
    options = parsed(["--every", "5", "--domains", "4", "--parts", "3"])
    runs = variants(options)
    measured = {name: [1.0 if run.parts == 1 else 4.0] * 15 for name, run in runs.items()}
    measured["none"] = [0.5] * 15
    found = compared(measured, runs, 5)
    assert {name for name, run in runs.items() if run.reweighter is None} == {"none", "none, 3 parts"}
    assert found["DynamicLoss"]["median"] == 1.0
    assert found["DynamicLoss, 3 parts"]["median"] == 0.0
    assert {each["steps"] for each in found.values()} == {10}
    limits = {name: each["limit"] for name, each in found.items()}
    assert limits["DynamicLoss"] == limits["IRDRO"] == 0.03
    assert limits["ADAPT"] == limits["ADAPT, 3 parts"] == limits["DynamicLoss, 3 parts"] == 0.35
    assert limits["DGA"] == pytest.approx(5 / 5 + 0.03)


def test_rows_are_of_the_lengths_promised() -> None:
    tokens = random_rows(200, 0, 50)
    prompts = tokens.lengths - tokens.completion_tokens
    assert (prompts.min(), prompts.max()) == (10, 49)
    assert (tokens.completion_tokens.min(), tokens.completion_tokens.max()) == (10, 49)
    assert tokens.ids.max() < 50


@pytest.mark.slow
def test_it_runs_and_leaves_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--width 32 --layers 1 --vocabulary 99 --rows 40 --steps 2 --every 2 --batch 4 --anchors 4 --repeats 1"
    main([*small.split(), "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert len(record["overheads"]) == 8
    assert {len(each) for each in record["seconds"].values()} == {4}
    assert all(second > 0 for each in record["seconds"].values() for second in each)
    assert record["command"].startswith("python benchmarks/reweighting_overhead.py --width 32")
    assert "DGA: " in capsys.readouterr().out
