"""Rows and tokens by origin and by source: they add up, and what nobody counted is not invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.report.sizes import hard_copies, origins, sources
from tests.fixtures.reports import page_of, rewrite, rewrite_run, rows_of


def test_unequal_copies_are_told_as_an_average(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert hard_copies(rows) == (2, True)
    assert rows.copies is not None
    copies = rows.copies.copy()
    copies[np.flatnonzero(rows.hard)[: rows.hard.sum() // 2]] = 3
    assert hard_copies(replace(rows, copies=copies)) == (2.5, False)


def test_sizes_add_up(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    sizes = origins(finished)
    assert not isinstance(sizes, str)
    assert [size.name for size in sizes] == ["input", "original", "duplicate", "output"]
    first, *parts, last = sizes
    assert sum(part.rows for part in parts) == last.rows == finished.run["counts"]["output"]
    assert sum(part.tokens or 0 for part in parts) == last.tokens == finished.run["counts"]["tokens_after"]
    assert sum(part.share or 0 for part in parts) == pytest.approx(1)
    assert rows.tokens is not None
    assert (first.rows, first.tokens) == (400, rows.tokens.sum())
    listed = sources(finished)
    assert not isinstance(listed, str)
    assert listed[1] == 4
    assert sum(row.before for row in listed[0]) == 400
    assert sum(row.after or 0 for row in listed[0]) == last.rows
    assert sum(row.tokens_before or 0 for row in listed[0]) == first.tokens
    assert sum(row.tokens_after or 0 for row in listed[0]) == last.tokens
    assert sum(row.hard for row in listed[0]) == 80
    shares = [row.hard_share or 0 for row in listed[0]]
    assert shares == sorted(shares, reverse=True)


def test_tokens_of_new_rows_are_not_invented(run_copy: Path) -> None:
    """Synthetic rows name a parent, replayed rows none; nobody counted the tokens of either."""

    def some_are_new(table: pa.Table) -> pa.Table:
        origin = ["synthetic", "synthetic", "replay", *table["origin"].to_pylist()[3:]]
        parents = [*table["source_id"].to_pylist()[:2], "elsewhere", *table["source_id"].to_pylist()[3:]]
        table = table.set_column(table.schema.get_field_index("origin"), "origin", [origin])
        return table.set_column(table.schema.get_field_index("source_id"), "source_id", [parents])

    rewrite(run_copy / "data/train-00000-of-00002.parquet", some_are_new)
    rewrite_run(run_copy, lambda run: run["counts"].update(synthetic=2, replay=1))
    finished, _ = rows_of(run_copy)
    assert finished.output is not None
    sizes = origins(finished)
    assert not isinstance(sizes, str)
    by_name = {size.name: size for size in sizes}
    assert (by_name["synthetic"].rows, by_name["synthetic"].tokens) == (2, None)
    assert (by_name["replay"].rows, by_name["replay"].tokens) == (1, None)
    assert by_name["duplicate"].tokens is not None
    listed = sources(finished)
    assert not isinstance(listed, str)
    touched = {int(rows_of(run_copy)[1].source[i]) for i in finished.output.parent[:2]}  # type: ignore[index]
    assert sum(row.tokens_after is None for row in listed[0]) == len(touched)
    page = page_of(run_copy)
    assert ("h2", {"id": "synthesis"}) in page.elements
    assert "1 rows of replay data were added" in page.text


def test_there_is_no_synthesis_section_without_synthetic_rows(finished_run: Path) -> None:
    page = page_of(finished_run)
    assert "synthesis" not in {attributes.get("id") for _, attributes in page.elements}
