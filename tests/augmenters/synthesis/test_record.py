"""The record of a synthesis: rows that screening left out are counted once, under their reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from augmenters.synthesis.record import rejected_variants, summarize
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.source_rows import SourceRows
from curate.generators.request_store import RequestStore
from curate.mixture.plan import Demand, Screened, Summary
from tests.fixtures.variants import answer, groups, settings


@pytest.fixture
def queue(tmp_path: Path) -> SynthesisQueue:
    queue = SynthesisQueue(groups(12), RequestStore(tmp_path / "r.sqlite"), "model")
    queue.replay()
    while requests := queue.take(5):
        for request in requests:
            queue.done(request, answer(request))
    queue.close()
    return queue


def summary(queue: SynthesisQueue, screened: Screened) -> Summary:
    demand = Demand(SimpleNamespace(of="hard"), "synthetic", 0, rows=np.arange(len(queue.groups)))
    sources = SourceRows([group.source for group in queue.groups])
    return summarize(settings(), demand, sources, queue, "name", None, screened)


def test_rows_that_screening_left_out_move_from_kept_to_their_reason(queue: SynthesisQueue) -> None:
    before = summary(queue, Screened())
    kept = [row for row in before.attempts["example_id"].to_pylist() if row is not None]
    assert len(kept) == before.record["outcomes"]["kept"] > 2
    measured = {row: (row != kept[1], 1.5) for row in kept[1:]}
    after = summary(queue, Screened({kept[0]: ("gate", "gate: it collides"), kept[1]: ("easy", "easy")}, measured))
    assert after.record["outcomes"] == before.record["outcomes"] | {"kept": len(kept) - 2, "gate": 1, "easy": 1}
    assert sum(after.record["outcomes"].values()) == after.attempts.num_rows == before.attempts.num_rows
    assert dict(after.record["funnel"])["kept"] == len(kept) - 2
    assert after.record["rescored"] == {"measured": len(kept) - 1, "hard": len(kept) - 2, "invalid": 0}
    rows = {row["example_id"]: row for row in after.attempts.to_pylist()}
    assert (rows[kept[0]]["outcome"], rows[kept[0]]["detail"]) == ("gate", "gate: it collides")
    assert [rows[row]["rescored_hard"] for row in kept[:3]] == [None, False, True]
    assert [rows[row]["difficulty"] for row in kept[:2]] == [None, 1.5]


def test_every_variant_is_a_row_or_rejected(queue: SynthesisQueue) -> None:
    record = summary(queue, Screened()).record
    rejected = rejected_variants(queue.groups)
    assert len(rejected) + record["outcomes"]["kept"] == 24
    assert all(each["reason"] and each["content"] for each in rejected)


def test_what_is_not_measured_is_a_warning_and_what_is_measured_none(queue: SynthesisQueue) -> None:
    codes = [warning.code for warning in summary(queue, Screened()).warnings]
    assert "new_rows_not_measured" in codes
    measured = summary(queue, Screened(measured={"any": (True, 1.0)}))
    assert [warning.code for warning in measured.warnings] == [
        code for code in codes if code != "new_rows_not_measured"
    ]
