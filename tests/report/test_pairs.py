"""New problems beside their originals: texts of their own rows, chosen by seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.report.finished_run import read_finished
from curate.report.pairs import KEPT_SHOWN, kept_pairs, read_attempts, refused_pairs
from curate.report.run_page import write_report
from tests.fixtures.reports import Page, page_of, rewrite, rewrite_run
from tests.fixtures.synthesis import record_of


@pytest.fixture(autouse=True)
def _without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes that every page holds and no test here looks at."""
    monkeypatch.setattr("curate.report.run_page._plotly_source", lambda: "")


def section_of(directory: Path) -> str:
    """The words of the section alone."""
    text = page_of(directory).text
    start = text.index("New problems Qwen")
    return text[start : text.index("Rejected rows", start)]


def test_pairs_hold_the_texts_of_their_own_rows(made: Path) -> None:
    finished = read_finished(made)
    attempts = read_attempts(finished)
    assert attempts is not None
    rows = {each["problem"]: each for each in pq.read_table(attempts.path).to_pylist()}
    pairs, every = kept_pairs(attempts, seed=7)
    assert every == record_of(made)["outcomes"]["kept"]
    assert len(pairs) == KEPT_SHOWN
    assert [pair.hard for pair in pairs] == sorted((pair.hard for pair in pairs), reverse=True)
    for pair in pairs:
        row = rows[pair.new[0].text]
        assert row["outcome"] == "kept"
        assert (pair.original[0].text, pair.identity) == (row["parent_problem"], row["source_id"])
        assert [field.text for field in pair.below] == [row["answer"], row["solution"]]
        assert (pair.right, pair.drawn, pair.hard) == (row["right"], row["drawn"], row["rescored_hard"])


def test_lost_problems_are_shown_by_reason_with_what_they_collide_with(made: Path) -> None:
    finished = read_finished(made)
    attempts = read_attempts(finished)
    assert attempts is not None
    outcomes = Counter(pq.read_table(attempts.path)["outcome"].to_pylist())
    del outcomes["kept"]
    groups = refused_pairs(finished, attempts)
    assert [group.count for group in groups] == sorted(outcomes.values(), reverse=True)
    assert all(1 <= len(group.pairs) <= 3 for group in groups)
    by_name = {group.reason.name: group.pairs for group in groups}
    assert "0.83 of the shingles" in by_name["Too similar to a row of the input"][0].below[0].text
    assert by_name["Reply without a problem"][0].new[0].label == "reply"


def test_the_choice_is_seeded_and_does_not_depend_on_the_order_of_the_table(made_copy: Path) -> None:
    before = write_report(made_copy).read_bytes()
    assert write_report(made_copy).read_bytes() == before
    order = np.random.default_rng(1).permutation(len(pq.read_table(made_copy / "tables/synthesis.parquet")))
    rewrite(made_copy / "tables/synthesis.parquet", lambda table: table.take(pa.array(order)))
    assert section_of(made_copy) == section_of_bytes(before)
    rewrite_run(made_copy, lambda run: run.update(seed=8))
    assert section_of(made_copy) != section_of_bytes(before)


def section_of_bytes(page: bytes) -> str:
    text = Page(page.decode()).text
    start = text.index("New problems Qwen")
    return text[start : text.index("Rejected rows", start)]
