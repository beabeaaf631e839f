"""The rule of reducible rows on the proxies of a task."""

import numpy as np
import pytest

from benchmarks.when.reducible_rows import null_rows, reducible_rows
from benchmarks.when.settings import Setting
from benchmarks.when.symbols import SymbolsTask
from curate import make_split
from curate.clusterers import KMeans
from curate.difficulty.halves import make_halves


@pytest.mark.slow
def test_shuffled_rows_are_told_from_late_ones() -> None:
    setting = Setting("symbols", "nothing", 0.2, 2_000, 32, 100, "t_hard", (1,), ("original",), noise=0.1)
    task = SymbolsTask(setting, 100)
    split = make_split(task.scores(), KMeans(), seed=100)
    reducible, said = reducible_rows(task, split, 100)
    wrong = np.array(task.rows["fault"].to_pylist()) != ""
    late = split.hard & ~wrong
    assert reducible[late].mean() > 0.6
    assert reducible[wrong].mean() < 0.3
    assert said["verdict"] == "estimated"
    assert said["wrong_share"] == pytest.approx(wrong[split.hard].mean(), abs=0.2)


def test_null_rows_have_the_completion_of_their_donor() -> None:
    setting = Setting("symbols", "nothing", 0.2, 200, 16, 10, "t_hard", (1,), ("original",))
    rows = SymbolsTask(setting, 100).rows
    answers = rows["answer"].to_pylist()
    halves = make_halves(rows["id"].to_pylist(), [len(each) for each in answers], answers)
    null = null_rows(rows, halves)
    assert len(null) == len(halves.null) > 0
    assert null["question"].to_pylist() == [rows["question"][i].as_py() for i in halves.null.tolist()]
    assert null["answer"].to_pylist() == [answers[i] for i in halves.donor.tolist()]
    assert all(answers[i] != answers[j] for i, j in zip(halves.null.tolist(), halves.donor.tolist(), strict=True))
