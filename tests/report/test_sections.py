"""The sections of the report: what was done, in numbers that add up and words that never say more than is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.report.finished_run import read_output
from curate.report.sections import Absent, headline, origins, quality, sources
from tests.fixtures.reports import page_of, rewrite, rewrite_run, rows_of

# ---- what it says


def test_the_headline_says_what_was_done(finished_run: Path) -> None:
    finished, _ = rows_of(finished_run)
    title, lead = headline(finished)
    assert title == "400 rows in, 479 rows out"
    assert lead == (
        "80 rows (20.4 % of the scored rows) were learned late by the proxy EleutherAI/pythia-70m and are shown "
        "twice. 1 row was left out."
    )


def test_unequal_copies_are_told_as_an_average(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    assert rows.copies is not None
    copies = rows.copies.copy()
    copies[np.flatnonzero(rows.hard)[: rows.hard.sum() // 2]] = 3
    _, lead = headline(replace(finished, rows=replace(rows, copies=copies)))
    assert "are shown 2.5 times on average" in lead


def test_sizes_add_up(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    output = read_output(finished)
    sizes = origins(finished, output)
    assert not isinstance(sizes, Absent)
    assert [size.name for size in sizes] == ["input", "original", "duplicate", "output"]
    first, *parts, last = sizes
    assert sum(part.rows for part in parts) == last.rows == finished.run["counts"]["output"]
    assert sum(part.tokens or 0 for part in parts) == last.tokens == finished.run["counts"]["tokens_after"]
    assert sum(part.share or 0 for part in parts) == pytest.approx(1)
    assert rows.tokens is not None
    assert (first.rows, first.tokens) == (400, rows.tokens.sum())
    listed = sources(finished, output)
    assert not isinstance(listed, Absent)
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
    output = read_output(finished)
    assert output is not None
    sizes = origins(finished, output)
    assert not isinstance(sizes, Absent)
    by_name = {size.name: size for size in sizes}
    assert (by_name["synthetic"].rows, by_name["synthetic"].tokens) == (2, None)
    assert (by_name["replay"].rows, by_name["replay"].tokens) == (1, None)
    assert by_name["duplicate"].tokens is not None
    listed = sources(finished, output)
    assert not isinstance(listed, Absent)
    touched = {int(rows_of(run_copy)[1].source[i]) for i in output.parent[:2]}  # type: ignore[index]
    assert sum(row.tokens_after is None for row in listed[0]) == len(touched)
    page = page_of(run_copy)
    assert ("h2", {"id": "synthesis"}) in page.elements
    assert "1 rows of replay data were added" in page.text


def test_there_is_no_synthesis_section_without_synthetic_rows(finished_run: Path) -> None:
    page = page_of(finished_run)
    assert "synthesis" not in {attributes.get("id") for _, attributes in page.elements}


# ---- words and numbers


def test_quality_says_what_was_not_measured() -> None:
    found = quality({"diagnostics": {"silhouette": None, "seed_agreement": None, "length_correlation": None}})
    assert not isinstance(found, Absent)
    assert [value for _, value, _ in found] == ["–"] * 3
    assert "--stability" in found[1][2]


@pytest.mark.parametrize(
    ("diagnostics", "says"),
    [
        ({"silhouette": 0.71}, "Strong structure"),
        ({"silhouette": 0.10, "silhouette_rows": 4000}, "No substantial structure, on a sample of 4,000 rows"),
        ({"length_correlation": -0.62}, "largely a matter of length: short completions"),
        ({"diverged": {"ok": False, "fall": 0.01}}, "have not fallen"),
        (
            {"seed_agreement": {"seeds": 3, "jaccard": 0.5, "jaccard_min": 0.4, "ari": 0.25}},
            "50.0 % are hard in both (the mean over the pairs of 3 seeds; the worst pair 40.0 %)",
        ),
    ],
)
def test_quality_is_told_in_words(diagnostics: dict[str, Any], says: str) -> None:
    found = quality({"diagnostics": diagnostics})
    assert not isinstance(found, Absent)
    assert says in " ".join(meaning for _, _, meaning in found)
