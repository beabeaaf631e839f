"""`curate compare`: what may be compared, what stands beside what, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.cli.comparison_table import print_comparison
from curate.comparison import Comparison, compare, paired_interval
from curate.comparison.text import headline, relative, signed
from tests.fixtures.studies import write_evaluation, write_run, write_study


def row_of(comparison: Comparison, arm: str, name: str = "pooled", metric: str = "accuracy") -> dict[str, Any]:
    rows = comparison.record["differences"]
    return next(each for each in rows if (each["arm"], each["set"], each["metric"]) == (arm, name, metric))


# -- what it says -----------------------------------------------------------------------------------------------------
def test_a_large_gain_is_better_and_none_is_no_evidence(compared: Comparison) -> None:
    assert row_of(compared, "hard")["verdict"] == "better"
    assert row_of(compared, "random")["verdict"] == "no evidence"
    title, sentences = headline(compared.record)
    assert title.startswith("hard beats original by ")
    assert sentences[0].startswith("hard beats original in accuracy (equal steps, 150 examples, 3 seeds): ")
    assert sentences[1].startswith("hard against random, equal steps: better, ")
    assert sentences[2].startswith("random, equal steps: no evidence, ")


def test_a_difference_picked_from_many_is_said_to_be(compared: Comparison) -> None:
    record = {**compared.record, "differences": [dict(each) for each in compared.record["differences"]]}
    family = [each for each in record["differences"] if each["primary"]]
    assert len(family) > 1
    for each in family:
        each["p_holm"] = 0.049
    assert "chance" not in " ".join([headline(record)[0], *headline(record)[1]])
    for each in family:
        each["p_holm"] = 0.051
    title, sentences = headline(record)
    assert title.endswith(f", but as one of {len(family)} comparisons that may be chance")
    assert sentences[0].endswith("p = 0.051: one of so many may come out like this by chance.")


def test_less_nll_is_better(compared: Comparison) -> None:
    row = row_of(compared, "hard", metric="nll")
    assert row["difference"] < 0
    assert row["verdict"] == "better"
    turned = compare([place for arm in compared.record["arms"] for place in arm["runs"]], "hard", resamples=50)
    assert row_of(turned, "original", metric="nll")["verdict"] == "worse"
    assert headline(turned.record)[0].startswith("original is worse than hard by ")


@pytest.mark.parametrize(
    ("seeds", "says"),
    [(3, "Four times in five this design would have found a difference of "), (2, "With 2 seeds it is hardly known ")],
)
def test_nothing_found_says_what_could_have_been(tmp_path: Path, seeds: int, says: str) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.0}, seeds=seeds, sets={"gsm8k": 40})
    found = compare(runs, resamples=50)
    assert row_of(found, "hard")["verdict"] == "no evidence"
    title, sentences = headline(found.record)
    assert title == "No evidence that hard differs from original"
    assert says in sentences[0]
    assert ("Four times in five" in sentences[0]) is (seeds == 3)


def test_no_number_is_more_than_there_can_be(tmp_path: Path) -> None:
    """Two seeds that differ as much as can be: an interval of thousands of points, and nothing that can be detected."""
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed))
            write_evaluation(runs[-1], "a", [float(seed == (arm == "hard"))] * 20)
    found = compare(runs, resamples=50)
    row = found.primary[0]
    assert (row["low"], row["high"], row["detectable"]) == (-1, 1, None)
    assert "could not have told any difference" in headline(found.record)[1][0]


def test_answers_that_all_came_out_alike_are_no_primary_outcome(tmp_path: Path) -> None:
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed))
            nll = np.linspace(1, 2, 20) - 0.1 * (arm == "hard") + 0.001 * seed
            write_evaluation(runs[-1], "a", [0.0] * 20, nll)
    found = compare(runs, resamples=50)
    assert found.record["primary"] == {"set": "pooled", "metric": "nll"}
    assert [(each["metric"], each["verdict"]) for each in found.primary] == [("nll", "better")]
    assert any("(accuracy 0 %)" in note for note in found.record["notes"])


def test_the_main_arm_comes_first_and_is_held_against_every_control(tmp_path: Path) -> None:
    arms = {"random": 0.0, "easy": 0.0, "original": 0.0, "sam": 0.0, "hard": 2.0}
    runs = write_study(tmp_path, arms, seeds=2, sets={"a": 60})
    found = compare(runs, resamples=50)
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
    turned = compare(runs, "random", resamples=50)
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


def test_pooled_weighs_sets_by_their_examples(compared: Comparison) -> None:
    for metric in ("accuracy", "nll"):
        pooled, gsm8k, math = (
            row_of(compared, "hard", name, metric)["difference"] for name in ("pooled", "gsm8k", "math")
        )
        assert pooled == pytest.approx((90 * gsm8k + 60 * math) / 150)
        assert row_of(compared, "hard", "mean of sets", metric)["difference"] == pytest.approx((gsm8k + math) / 2)
    weights = {(each["set"], each["metric"]): each["weight"] for each in compared.record["sets"]}
    assert weights["gsm8k", "nll"] == pytest.approx(0.6)


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


def test_levels_and_sources_come_by_set_in_natural_order(compared: Comparison) -> None:
    levels = compared.record["levels"]
    assert {each["set"] for each in levels} == {"math"}
    hard = [each for each in levels if each["arm"] == "hard" and each["metric"] == "accuracy"]
    names = [each["level"] for each in hard]
    assert names == sorted(names)
    assert sum(each["examples"] for each in hard) <= 60
    assert {each["set"] for each in compared.record["sources"]} == {"gsm8k", "math"}


def test_cost_counts_the_curation_once_and_gives_gain_per_compute(compared: Comparison) -> None:
    arms = {each["arm"]: each for each in compared.record["arms"]}
    assert arms["original"]["flops_ratio"] == 1
    extra = 6 * 70_000_000 * 400_000
    assert arms["hard"]["flops_total"] == pytest.approx(1.1e15 + extra)
    assert arms["hard"]["seconds_total"] == pytest.approx(901 + 120)
    gain = row_of(compared, "hard")["difference"]
    assert arms["hard"]["gain_per_1e15_flops"] == pytest.approx(gain / (1.1 + extra / 1e15))
    assert arms["original"]["gain_per_hour"] is None


def test_examples_won_and_lost_add_up_and_show_a_telling_completion(compared: Comparison) -> None:
    hard = next(each for each in compared.outcomes if each.arm == "hard")
    assert hard.won + hard.lost + hard.drawn == 150
    assert hard.won > hard.lost
    for example in hard.gains:
        assert example.arm_score > 0.5 >= example.baseline_score
        number = int(example.identity.removeprefix("q-"))
        assert example.arm_completion == f"{number} + {number + 1} = {2 * number + 1}"
        assert example.baseline_completion == f"{number} + {number + 1} = {2 * number + 2}"


def test_without_generation_the_primary_outcome_is_nll(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 1.0}, seeds=2, sets={"a": 30}, generated=False)
    found = compare(runs, resamples=50)
    assert found.record["primary"] == {"set": "pooled", "metric": "nll"}
    assert found.primary[0]["verdict"] == "better"
    assert found.outcomes[0].won + found.outcomes[0].lost == 30
    assert "loss on the reference answers" in headline(found.record)[1][0]
    assert found.outcomes[0].gains[0].arm_completion is None


def test_the_record_is_json_and_the_same_each_time(study: list[Path], compared: Comparison) -> None:
    again = compare(study, resamples=200)
    assert json.dumps(again.record, allow_nan=False) == json.dumps(compared.record, allow_nan=False)


def test_rows_that_are_cut_off_are_counted(compared: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("curate.cli.comparison_table._MOST_ROWS", 5)
    print_comparison(compared.record)
    assert "and 3 more: --json and the page" in capsys.readouterr().out


def test_signs_are_shown_where_there_is_something_to_sign() -> None:
    assert [signed("accuracy", value) for value in (0.024, -0.024, 0.0001, -0.0001)] == ["+2.4", "−2.4", "0.0", "0.0"]
    assert signed("nll", -0.0312) == "−0.0312"
    assert relative(None) == "–"
    assert relative(-0.061) == "−6.1\u00a0%"
