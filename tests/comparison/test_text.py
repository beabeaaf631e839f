"""Sentences and numbers of a comparison: what is claimed, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.comparison.compare import Comparison, compare
from curate.comparison.text import headline, relative, signed
from tests.fixtures.studies import row_of, write_evaluation, write_run, write_study


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
    assert title.endswith(f", but among {len(family)} comparisons that may be chance")
    assert sentences[0].endswith("p = 0.051: among so many, one may look like this by chance.")


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        (3, "With 80\u00a0% power this design detects a difference of "),
        (2, "With 2 seeds the detectable difference is too uncertain "),
    ],
)
def test_nothing_found_says_what_could_have_been(tmp_path: Path, seeds: int, says: str) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.0}, seeds=seeds, sets={"gsm8k": 40})
    found = compare(runs)
    assert row_of(found, "hard")["verdict"] == "no evidence"
    title, sentences = headline(found.record)
    assert title == "No evidence that hard differs from original"
    assert says in sentences[0]
    assert ("this design detects" in sentences[0]) is (seeds == 3)


def test_signs_are_shown_where_there_is_something_to_sign() -> None:
    assert [signed("accuracy", value) for value in (0.024, -0.024, 0.0001, -0.0001)] == ["+2.4", "−2.4", "0.0", "0.0"]
    assert signed("nll", -0.0312) == "−0.0312"
    assert relative(None) == "–"
    assert relative(-0.061) == "−6.1\u00a0%"


def test_unequal_lengths_without_a_budget_are_told_in_the_first_sentence(tmp_path: Path) -> None:
    runs = []
    for arm, steps in (("original", 18), ("hard", 27)):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed, budget=None, training={"steps": steps}))
            write_evaluation(runs[-1], "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    lead = headline(compare(runs).record)[1][0]
    assert "hard was trained 27 steps and original 18" in lead
    equal = write_study(tmp_path / "equal", {"original": 0.0, "hard": 0.5}, seeds=2, sets={"a": 20})
    assert "was trained" not in headline(compare(equal).record)[1][0]
