"""`curate compare`: what may be compared, what stands beside what, and what is said about it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.cli.compare import print_comparison
from curate.comparison.compare import Comparison, compare
from curate.comparison.page import comparison_page
from curate.comparison.statistics import paired_interval
from curate.comparison.text import headline
from tests.fixtures.studies import row_of, write_evaluation, write_run, write_study

# -- what it says -----------------------------------------------------------------------------------------------------


def test_answers_that_all_came_out_alike_are_no_primary_outcome(tmp_path: Path) -> None:
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed))
            nll = np.linspace(1, 2, 20) - 0.1 * (arm == "hard") + 0.001 * seed
            write_evaluation(runs[-1], "a", [0.0] * 20, nll)
    found = compare(runs)
    assert found.record["primary"] == {"set": "pooled", "metric": "nll"}
    assert [(each["metric"], each["verdict"]) for each in found.primary] == [("nll", "better")]
    assert any("(accuracy 0 %)" in note for note in found.record["notes"])


def test_the_main_arm_comes_first_and_is_held_against_every_control(tmp_path: Path) -> None:
    arms = {"random": 0.0, "easy": 0.0, "original": 0.0, "sam": 0.0, "hard": 2.0}
    runs = write_study(tmp_path, arms, seeds=2, sets={"a": 60})
    found = compare(runs)
    assert [each["arm"] for each in found.primary] == ["hard", "random", "easy", "sam"]
    rows = [each for each in found.record["against_controls"] if each["metric"] == "accuracy"]
    assert [(each["arm"], each["baseline"], each["set"]) for each in rows] == [
        ("hard", "random", "pooled"),
        ("hard", "easy", "pooled"),
    ]
    for row in rows:
        other = row_of(found, row["baseline"])["difference"]
        assert row["difference"] == pytest.approx(row_of(found, "hard")["difference"] - other)
    assert not any(each["primary"] for each in rows)
    assert found.primary[0]["p_holm"] == pytest.approx(min(1, 4 * min(each["p"] for each in found.primary)))
    turned = compare(runs, "random")
    assert {each["baseline"] for each in turned.record["against_controls"]} == {"easy"}


def test_the_numbers_are_those_of_the_files(study: list[Path], compared: Comparison) -> None:
    import pyarrow.parquet as pq

    def values(arm: str, name: str, column: str) -> Any:
        tables = [pq.read_table(place / "evaluation" / name / "rows.parquet") for place in study if arm in place.name]
        return np.array([table[column].to_pylist() for table in tables], float)

    found = row_of(compared, "hard", "math")
    wanted = paired_interval(values("hard", "math", "accuracy"), values("original", "math", "accuracy"), discrete=True)
    assert (found["low"], found["high"], found["p"]) == pytest.approx((wanted.low, wanted.high, wanted.p))
    tokens = values("hard", "math", "nll_tokens")[0]
    wanted = paired_interval(values("hard", "math", "nll"), values("original", "math", "nll"), weights=tokens)
    found = row_of(compared, "hard", "math", "nll")
    assert (found["arm_mean"], found["low"], found["high"]) == pytest.approx((wanted.arm_mean, wanted.low, wanted.high))


def test_one_outcome_per_arm_is_primary_and_p_is_adjusted_within(compared: Comparison) -> None:
    assert [(each["arm"], each["set"], each["metric"]) for each in compared.primary] == [
        ("hard", "pooled", "accuracy"),
        ("random", "pooled", "accuracy"),
    ]
    assert compared.primary[0]["p_holm"] == pytest.approx(2 * compared.primary[0]["p"])
    assert all(each["p_holm"] >= each["p"] for each in compared.record["differences"])


def test_scores_are_means_over_seeds_with_each_seeds_own(compared: Comparison) -> None:
    row = next(each for each in compared.record["scores"] if (each["arm"], each["set"]) == ("hard", "pooled"))
    assert list(row["by_seed"]) == ["0", "1", "2"]
    assert np.mean(list(row["by_seed"].values())) == pytest.approx(row["mean"])
    assert row["mean"] == pytest.approx(row_of(compared, "hard")["arm_mean"])


def test_without_generation_the_primary_outcome_is_nll(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 1.0}, seeds=2, sets={"a": 30}, generated=False)
    found = compare(runs)
    assert found.record["primary"] == {"set": "pooled", "metric": "nll"}
    assert found.primary[0]["verdict"] == "better"
    assert found.outcomes[0].won + found.outcomes[0].lost == 30
    assert "loss on the reference answers" in headline(found.record)[1][0]
    assert found.outcomes[0].gains[0].arm_completion is None


def test_the_record_is_json_and_the_same_each_time(study: list[Path], compared: Comparison) -> None:
    again = compare(study)
    assert json.dumps(again.record, allow_nan=False) == json.dumps(compared.record, allow_nan=False)


def test_warnings_from_elsewhere_stand_with_the_result(small: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(small, warnings=["3 rows share text with <a>"])
    print_comparison(found.record)
    assert "warning: 3 rows share text with <a>" in " ".join(capsys.readouterr().out.split())
    assert "3 rows share text with &lt;a&gt;" in comparison_page(found.record, found.curves, found.outcomes)


def test_seeds_that_only_one_arm_has_are_left_out_and_told(small: list[Path]) -> None:
    extra = write_run(small[0].parent / "more", "hard", 9)
    shutil.copytree(small[-1] / "evaluation", extra / "evaluation")
    found = compare([*small, extra])
    assert found.primary[0]["seeds"] == 2
    assert any("the seeds both have (0, 1)" in note for note in found.record["notes"])


def test_one_seed_is_told_to_be_less_certain(small: list[Path]) -> None:
    found = compare([place for place in small if place.name.endswith("seed0")])
    assert {each["verdict"] for each in found.record["differences"]} == {"one seed"}
    title, sentences = headline(found.record)
    assert title.startswith("One seed is not a verdict: hard against original, ")
    assert "run 3 seeds or more" in sentences[0]
    assert any("the variance between seeds is unknown" in note for note in found.record["notes"])


def test_a_comparison_shows_its_headline_and_draws_its_primary_differences(compared: Comparison) -> None:
    assert 2 <= len(repr(compared).splitlines()) <= 15
    assert {each["arm"] for each in compared.primary} <= set(re.findall(r"[\w-]+", repr(compared)))
    assert compared._repr_html_().startswith("<div>")
    drawn = [value for trace in compared.plot().data for value in trace.x]
    scale = 100 if compared.record["primary"]["metric"] == "accuracy" else 1
    for each in compared.primary:
        assert any(abs(value - scale * each["difference"]) < 0.01 for value in drawn)
    assert len(compared.to_pandas()) == len(compared.record["differences"])
