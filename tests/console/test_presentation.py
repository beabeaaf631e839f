"""What results show of themselves is short, and nothing that the data holds can act in it."""

from dataclasses import dataclass

import pyarrow as pa
import pytest

from curate.console.presentation import MOST_LINES, Facts, Tabular, chain
from curate.data.readers import read


@dataclass(repr=False)
class Table(Tabular):
    rows: int

    def summary(self) -> Facts:
        return Facts("rows", (("how many", str(self.rows)),))

    def to_arrow(self) -> pa.Table:
        return pa.table({"n": list(range(self.rows))})

    def __len__(self) -> int:
        return self.rows


def test_a_summary_is_at_most_fifteen_lines_of_bounded_width() -> None:
    text = str(Facts("x " * 900, tuple((f"fact {k} " * 9, "y\n" * 900) for k in range(99))))
    assert len(text.splitlines()) == MOST_LINES
    assert max(map(len, text.splitlines())) < 150


def test_markup_and_escapes_of_the_data_are_text() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    shown = Facts(hostile, ((hostile, hostile),), above=chain([(hostile, hostile)]))._repr_html_()
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert shown.count("&lt;script&gt;") == 5
    assert "\x1b" not in str(Facts(hostile, ((hostile, hostile),)))


def test_rows_by_number_and_slice_and_columns_by_name() -> None:
    table = Table(5)
    assert repr(table) == "rows\n  how many  5"
    assert table[1] == {"n": 1}
    assert table[-1] == {"n": 4}
    assert table[1:3]["n"].to_pylist() == [1, 2]
    assert table[::-2]["n"].to_pylist() == [4, 2, 0]
    assert table["n"].to_pylist() == [0, 1, 2, 3, 4]
    assert [row["n"] for row in table] == [0, 1, 2, 3, 4]
    assert table.to_pandas()["n"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError, match="there are 5"):
        table[5]
    with pytest.raises(KeyError, match="columns are n"):
        table["m"]


def test_what_was_read_is_shown_without_its_texts() -> None:
    loaded = read({"prompt": ["a secret question"] * 2, "completion": ["an answer", "another"]})
    for shown in (loaded, loaded.examples):
        assert len(repr(shown).splitlines()) <= MOST_LINES
        assert "2" in repr(shown)
        assert "secret" not in repr(shown) + shown._repr_html_()
