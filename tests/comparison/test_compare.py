"""`curate compare`: what may be compared, what stands beside what, and what is said about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.cli.comparison_table import print_comparison
from curate.cli.main import main
from curate.comparison import Comparison, compare, paired_interval
from curate.comparison.page import comparison_page
from curate.comparison.text import headline, relative, signed
from curate.errors import InputError
from curate.storage.records import record_text
from tests.fixtures.studies import write_evaluation, write_run, write_study

ARMS = {"original": 0.0, "hard": 1.5, "random": 0.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"), ARMS, sets={"gsm8k": 90, "math": 60})


@pytest.fixture(scope="module")
def compared(study: list[Path]) -> Comparison:
    return compare(study, resamples=200)


@pytest.fixture
def small(tmp_path: Path) -> list[Path]:
    return write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"gsm8k": 20})


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


# -- what stands beside what ------------------------------------------------------------------------------------------


def test_budgets_are_compared_apart(tmp_path: Path) -> None:
    arms = {"original": 0.0, "hard": 0.5}
    runs = write_study(tmp_path, arms, seeds=2, sets={"a": 20}, budgets=("epochs", "steps"))
    found = compare(runs, resamples=50)
    assert [each["budget"] for each in found.primary] == ["steps", "epochs"]


@pytest.mark.parametrize(
    ("budget", "training", "says"),
    [
        ("steps", {"steps": 400}, "equal steps, but one took 200 steps and the other 400"),
        ("epochs", {"steps": 200, "epochs": 2.5}, "equal epochs, but one took 3 epochs and the other 2.5"),
    ],
)
def test_runs_that_were_not_given_their_budget_are_refused(
    budget: str, training: dict[str, Any], says: str, tmp_path: Path
) -> None:
    runs = write_study(tmp_path, {"original": 0.0}, seeds=1, sets={"a": 20}, budgets=(budget,))
    run = write_run(tmp_path / "longer", "hard", 0, budget=budget, training=training)
    write_evaluation(run, "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    with pytest.raises(InputError, match=says):
        compare([*runs, run], resamples=50)


def test_epochs_are_equal_up_to_half_a_step(tmp_path: Path) -> None:
    runs = []
    for arm, training in (("original", {"steps": 12, "epochs": 0.96}), ("hard", {"steps": 17, "epochs": 1.02})):
        runs.append(write_run(tmp_path / arm, arm, 0, budget="epochs", training=training))
        write_evaluation(runs[-1], "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    assert compare(runs, resamples=50).primary[0]["budget"] == "epochs"


def test_unequal_lengths_without_a_budget_are_told_in_the_first_sentence(tmp_path: Path) -> None:
    runs = []
    for arm, steps in (("original", 18), ("hard", 27)):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed, budget=None, training={"steps": steps}))
            write_evaluation(runs[-1], "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    lead = headline(compare(runs, resamples=50).record)[1][0]
    assert "hard was trained 27 steps and original 18" in lead
    equal = write_study(tmp_path / "equal", {"original": 0.0, "hard": 0.5}, seeds=2, sets={"a": 20})
    assert "was trained" not in headline(compare(equal, resamples=50).record)[1][0]


def test_warnings_from_elsewhere_stand_with_the_result(small: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(small, resamples=50, warnings=["3 rows share text with <a>"])
    print_comparison(found.record)
    assert "warning: 3 rows share text with <a>" in " ".join(capsys.readouterr().out.split())
    assert "3 rows share text with &lt;a&gt;" in comparison_page(found.record, found.curves, found.outcomes)


def test_a_run_counts_at_every_budget_that_it_meets(tmp_path: Path) -> None:
    """`hard` took the steps that everybody took, in the epochs that the original takes by epochs."""
    runs = write_study(tmp_path / "steps", {"original": 0.0, "hard": 0.5}, seeds=2, sets={"a": 20})
    for seed in (0, 1):
        training = {"steps": 140, "epochs": 2.5}
        run = write_run(tmp_path / f"epochs-{seed}", "original", seed, budget="epochs", training=training)
        write_evaluation(run, "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
        runs.append(run)
    found = compare(runs, resamples=50)
    rows = [each for each in found.record["differences"] if (each["set"], each["metric"]) == ("pooled", "accuracy")]
    assert [(each["arm"], each["budget"]) for each in rows] == [("hard", "steps"), ("hard", "epochs")]
    assert [each["budget"] for each in found.primary] == ["steps"]  # once in the family
    assert any("stand at equal epochs too" in note for note in found.record["notes"])


def test_seeds_that_only_one_arm_has_are_left_out_and_told(small: list[Path]) -> None:
    extra = write_run(small[0].parent / "more", "hard", 9)
    shutil.copytree(small[-1] / "evaluation", extra / "evaluation")
    found = compare([*small, extra], resamples=50)
    assert found.primary[0]["seeds"] == 2
    assert any("the seeds both have (0, 1)" in note for note in found.record["notes"])


def test_one_seed_is_told_to_be_less_certain(small: list[Path]) -> None:
    found = compare([place for place in small if place.name.endswith("seed0")], resamples=50)
    assert {each["verdict"] for each in found.record["differences"]} == {"one seed"}
    title, sentences = headline(found.record)
    assert title.startswith("One seed is no verdict: hard against original, ")
    assert "run 3 seeds or more" in sentences[0]
    assert any("how much seeds differ is unknown" in note for note in found.record["notes"])


def test_other_settings_than_the_data_are_told(small: list[Path]) -> None:
    base = {"use": "AdamW", "eps": 1e-8}
    changed = {"optimizer": {"use": "SAM", "rho": 0.05, "base": base}, "batch_size": 8}
    other = write_run(small[0].parent / "sam", "sam", 0, settings=changed)
    shutil.copytree(small[0] / "evaluation", other / "evaluation")
    found = compare([*small, other], resamples=50)
    assert any(
        note == "Arm sam differs from original in more than the data: batch_size, optimizer."
        for note in found.record["notes"]
    )


def test_models_are_told_apart_by_their_weights_and_notes_come_once(tmp_path: Path) -> None:
    """The scratch models of a validation have a path for each seed; three arms that differ alike are one line."""
    runs = []
    for arm in ("original", "hard", "random", "easy"):
        for seed in (0, 1):
            settings = {"model": f"out/scratch/seed{seed}", "learning_rate": 1.0 if arm == "original" else 2.0}
            runs.append(
                write_run(
                    tmp_path / f"{arm}{seed}", arm, seed, settings=settings, name=settings["model"], identity=f"w{seed}"
                )
            )
            write_evaluation(runs[-1], "a", [1.0, 0.0] * 9)
    training = {"steps": 140, "epochs": 2.5}
    for seed in (0, 1):
        run = write_run(
            tmp_path / f"epochs-{seed}",
            "original",
            seed,
            budget="epochs",
            training=training,
            settings={"learning_rate": 1.0},
            name=f"out/scratch/seed{seed}",
            identity=f"w{seed}",
        )
        write_evaluation(run, "a", [1.0, 0.0] * 9)
        runs.append(run)
    notes = compare(runs, resamples=50).record["notes"]
    assert notes == [
        "The runs of hard, random, easy stand at equal epochs too: they met that budget as they were.",
        "Arms hard, random, easy differ from original in more than the data: learning_rate.",
    ]


def test_examples_not_measured_everywhere_are_left_out_and_told(small: list[Path]) -> None:
    place = small[0] / "evaluation" / "gsm8k"
    shutil.rmtree(place)
    write_evaluation(small[0], "gsm8k", [1.0, 0.0] * 9, [1.0, 2.0] * 9)
    found = compare(small, resamples=50)
    assert found.primary[0]["examples"] == 18
    assert "2 examples of gsm8k are left out of accuracy: not every run has them." in found.record["notes"]


@pytest.mark.parametrize(
    ("identity", "name", "allowed"),
    [
        ("scratch:drawn", lambda seed: "scratch", True),
        ("files:drawn", lambda seed: f"out/scratch/seed{seed}", True),
        ("files:drawn", lambda seed: f"out/scratch/seed{seed + 1}", False),
        ("files:drawn", lambda seed: "base", False),
    ],
)
def test_models_made_from_scratch_differ_by_seed_alone(
    tmp_path: Path, identity: str, name: Callable[[int], str], allowed: bool
) -> None:
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed, identity=f"{identity}-{seed}", name=name(seed)))
            write_evaluation(runs[-1], "a", [1.0, 0.0] * 9)
    if allowed:
        assert compare(runs, resamples=50).primary[0]["seeds"] == 2
    else:
        with pytest.raises(InputError, match=r"original0 fine-tuned .* and .*original1 .*; compare runs of one model"):
            compare(runs)


def test_sets_that_not_all_runs_have_are_left_out_and_told(small: list[Path]) -> None:
    write_evaluation(small[0], "math", [1.0, 0.0], [1.0, 1.0])
    found = compare(small, resamples=50)
    assert {each["set"] for each in found.record["sets"]} == {"gsm8k"}
    assert any(note.startswith("Evaluation set math is left out: ") for note in found.record["notes"])


def test_only_the_asked_sets_are_compared(study: list[Path], capsys: Any) -> None:
    found = compare(study, sets=["math"], resamples=50)
    assert {each["set"] for each in found.record["sets"]} == {"math"}
    assert found.record["notes"] == []
    assert found.primary[0]["examples"] == 60
    assert main(["compare", *map(str, study), "--sets", "math, gsm8k", "--json"]) == 0
    assert {each["set"] for each in json.loads(capsys.readouterr().out)["sets"]} == {"math", "gsm8k"}
    with pytest.raises(InputError, match=r"was not evaluated on 'other'; .* has gsm8k, math\)"):
        compare(study, sets=["math", "other"])
    with pytest.raises(InputError, match="sets is empty"):
        compare(study, sets=[])


# -- bad input --------------------------------------------------------------------------------------------------------


def _unfinished(runs: list[Path]) -> list[Path]:
    (runs[1] / "run.json").rename(runs[1] / ".run.json.unfinished")
    return runs


def _not_evaluated(runs: list[Path]) -> list[Path]:
    shutil.rmtree(runs[2] / "evaluation")
    return runs


def _set_missing(runs: list[Path]) -> list[Path]:
    (runs[0] / "evaluation" / "gsm8k").rename(runs[0] / "evaluation" / "math")
    summary = runs[0] / "evaluation" / "math" / "summary.json"
    summary.write_text(record_text({**json.loads(summary.read_text()), "name": "math"}))
    return runs


def _rewritten(runs: list[Path], **changed: Any) -> list[Path]:
    shutil.rmtree(runs[0] / "evaluation")
    accuracy = changed.pop("values", [1.0] * 20)
    write_evaluation(runs[0], "gsm8k", accuracy, changed.pop("nll", [1.0] * 20), **changed)
    return runs


def _other_model(runs: list[Path]) -> list[Path]:
    other = write_run(runs[0].parent / "other", "easy", 0, identity="weights-b")
    shutil.copytree(runs[0] / "evaluation", other / "evaluation")
    return [*runs, other]


def _same_seed(runs: list[Path]) -> list[Path]:
    return [*runs, Path(shutil.copytree(runs[0], runs[0].parent / "copy"))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda runs: runs[:2], "all 2 runs are of arm original; give runs of at least one more arm"),
        (lambda runs: runs[:1], "all 1 runs are of arm original"),
        (lambda runs: runs[2:], "no run is of the baseline arm 'original'; name one with --baseline: hard"),
        (lambda runs: [runs[0], runs[3]], "have no seed in common"),
        (lambda runs: [*runs, runs[0].parent / "nothing"], "nothing holds no fine-tuning run"),
        (_unfinished, "original-steps-seed1 is not finished"),
        (_not_evaluated, "hard-steps-seed0 was not evaluated; run `curate evaluate"),
        (_set_missing, "there is no evaluation set that all runs have"),
        (_other_model, "compare runs of one model"),
        (_same_seed, "are both seed 0 of arm 'original'"),
        (lambda runs: _rewritten(runs, protocol="q"), "in different ways"),
        (lambda runs: _rewritten(runs, example_id=[f"x-{i}" for i in range(20)]), "share no example of 'gsm8k'"),
        (lambda runs: _rewritten(runs, example_id=["q-0000"] * 20), "holds an example id twice"),
        (
            lambda runs: _rewritten(runs, values=[float("nan")] * 20),
            "accuracy of example q-0000 is not a finite number",
        ),
        (
            lambda runs: _rewritten(runs, nll=[1.0] * 19 + [float("inf")]),
            "nll of example q-0019 is not a finite number",
        ),
        (lambda runs: _rewritten(runs, values=None), "has no accuracy on 'gsm8k'"),
        (lambda runs: _rewritten(runs, nll_tokens=pa.array([3] * 20, pa.int32())), "count the tokens"),
    ],
)
def test_what_cannot_be_compared_is_named(small: list[Path], change: Callable[..., list[Path]], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        compare(change(small))
    assert "\n" not in str(error.value)


# -- the command and the terminal -------------------------------------------------------------------------------------


def test_the_command_prints_one_object_and_writes_the_page(small: list[Path], capsys: Any) -> None:
    out = small[0].parent / "new" / "report.html"
    assert main(["compare", *map(str, small), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out.parent / "comparison.json").read_text())
    assert {key: value for key, value in printed.items() if key != "report"} == written
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["compare", *map(str, small), "--baseline", "hard"]) == 0
    assert "No evidence that original differs from hard" in capsys.readouterr().out


def test_errors_of_the_command_have_status_2(small: list[Path], capsys: Any) -> None:
    assert main(["compare", str(small[0])]) == 2
    assert main(["compare", *map(str, small), "--out", "report.txt"]) == 2
    assert "give a name that ends in .html" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 150])
def test_the_table_fits_the_terminal(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_comparison(compared.record)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any("better" in line for line in lines)


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_the_primary_outcome_comes_first(compared: Comparison, capsys: Any, metric: str) -> None:
    print_comparison({**compared.record, "primary": {**compared.record["primary"], "metric": metric}})
    titles = [line for line in capsys.readouterr().out.splitlines() if " against original (" in line]
    assert [title.split()[0] for title in titles] == [metric, "nll" if metric == "accuracy" else "accuracy"]


def test_a_lone_evaluation_set_has_one_row_in_the_table(tmp_path: Path, capsys: Any) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"math": 60}, generated=False)
    print_comparison(compare(runs, resamples=50).record)
    shown = capsys.readouterr().out
    assert "pooled" in shown
    assert "math" not in shown


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
