"""Points in a plot are named by the words of their own row, whatever the order of the files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from curate.report.first_words import first_words
from tests.fixtures.reports import rows_of


def test_words_are_those_of_the_row(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    data = pq.read_table(finished_run / "data").to_pylist()
    column = finished.run["data"]["columns"]["prompt"]
    texts = {row["source_id"]: row[column] for row in data}
    positions = np.array([0, 7, 390])
    found = first_words(finished, rows, positions)
    for position, text in zip(positions.tolist(), found, strict=True):
        whole = texts.get(rows.ids[position].as_py())
        assert text == ("" if whole is None else whole)
    assert any(found)
