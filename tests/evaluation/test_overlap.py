"""Training rows among the questions are warned of."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import DataWarning
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from tests.fixtures.evaluation import LOCAL, summary, table, write_run


def test_training_rows_that_are_asked_are_warned_of_with_counts(tmp_path: Path, trained_on: Path) -> None:
    shared = "how many pears are left in the basket when the miller has sold 7 of the 12 pears that he had?"
    pq.write_table(
        pa.table(
            {
                "question": [shared.upper(), shared.upper(), shared.replace("12", "40"), "something else"],
                "answer": ["5", "5", "33", "x"],
            }
        ),
        trained_on,
    )
    run = write_run(tmp_path / "run", data=trained_on)
    rows = table(question=["What is 12 plus 30?", "How many?", shared])
    with pytest.warns(DataWarning, match=r"at least 1 of its 3 questions \(.*2 exact.*3 template"):
        found = evaluate(run, {"q": rows}, Evaluation(generate=False, **LOCAL), device="cpu")
    assert summary(found)["overlap"]["rules"]["exact"] == {"training_rows": 2, "evaluation_rows": 1}
    clean = evaluate(run, {"clean": table()}, Evaluation(generate=False, **LOCAL), device="cpu")
    assert summary(clean, "clean")["overlap"] == {"rules": {}}
    trained_on.unlink()
    with pytest.warns(DataWarning, match="is unknown: the training data .* is no longer there"):
        evaluate(run, {"later": table()}, Evaluation(generate=False, **LOCAL), device="cpu")
    pq.write_table(pa.table({"question": ["new"], "answer": ["x"]}), trained_on)
    with pytest.warns(DataWarning, match="is no longer what the run was trained on"):
        evaluate(run, {"latest": table()}, Evaluation(generate=False, **LOCAL), device="cpu")
