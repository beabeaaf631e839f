"""Compare two finished runs: rows that changed sides, agreement, and differences of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.console.formatting import one_line
from curate.errors import InputError
from curate.report.finished_run import Finished, Rows, look_up, mapping, read_finished
from curate.report.texts import first_words

_LISTED = 10  # rows that changed sides, of each kind, with their difficulties


def run_difference(first: Path, second: Path) -> dict[str, Any]:
    """Compare two folders of `curate run`; returns plain JSON with these keys.

    rows: numbers of rows in both and in only one. sides: of the rows scored in both, those hard in both, in only one
    and in neither. jaccard: hard in both over hard in either; None if there are none. rank_correlation: Spearman
    correlation of difficulty. changed: some rows that changed sides, largest difference of difficulty ranks first;
    words: how they begin, "" where neither result has them. mixture: rows of the results by origin. recipe: {key:
    values of both} where they differ. Raises InputError for a folder without a result or without tables.
    """
    first_run, second_run = read_finished(first), read_finished(second)
    a, b = _rows(first_run), _rows(second_run)
    places = pc.index_in(a.ids, value_set=b.ids)
    rows_a = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))  # (common rows,)
    rows_b = places.drop_null().to_numpy().astype(np.int64)
    common = len(rows_a)
    scored = a.valid[rows_a] & b.valid[rows_b]
    rows_a, rows_b = rows_a[scored], rows_b[scored]
    hard_a, hard_b = a.hard[rows_a], b.hard[rows_b]
    hard_in_both, hard_in_either = int((hard_a & hard_b).sum()), int((hard_a | hard_b).sum())
    ranks_a, ranks_b = _ranks(a.difficulty[rows_a]), _ranks(b.difficulty[rows_b])
    apart = np.abs(ranks_a - ranks_b)  # (common scored rows,)
    return {
        "first": str(first),
        "second": str(second),
        "rows": {
            "in_both": common,
            "only_first": len(a.ids) - common,
            "only_second": len(b.ids) - common,
        },
        "sides": {
            "hard_in_both": hard_in_both,
            "only_first": int((hard_a & ~hard_b).sum()),
            "only_second": int((hard_b & ~hard_a).sum()),
            "neither": len(rows_a) - hard_in_either,
        },
        "jaccard": hard_in_both / hard_in_either if hard_in_either else None,
        "rank_correlation": _correlation(ranks_a, ranks_b),
        "changed": {
            "only_first": _changed(a, b, rows_a, rows_b, hard_a & ~hard_b, apart, first_run, second_run),
            "only_second": _changed(a, b, rows_a, rows_b, hard_b & ~hard_a, apart, first_run, second_run),
        },
        "mixture": _mixture(first_run, second_run),
        "recipe": _changes(mapping(first_run.run, "recipe"), mapping(second_run.run, "recipe")),
    }


def _rows(finished: Finished) -> Rows:
    if finished.rows is None:
        raise InputError(f"{finished.directory} has no tables/split.parquet, so there are no rows to compare")
    return finished.rows


def _ranks(values: Any) -> Any:
    """(m,) ranks scaled to [0, 1]; ties keep their order."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(1, len(values) - 1)


def _correlation(first: Any, second: Any) -> float | None:
    if len(first) < 3 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _changed(
    a: Rows, b: Rows, rows_a: Any, rows_b: Any, mask: Any, apart: Any, first: Finished, second: Finished
) -> list[dict[str, Any]]:
    rows = np.flatnonzero(mask)  # (marked rows,)
    rows = rows[np.argsort(-apart[rows], kind="stable")[:_LISTED]]
    ids = a.ids.take(pa.array(rows_a[rows])).to_pylist()
    difficulties = zip(a.difficulty[rows_a[rows]].tolist(), b.difficulty[rows_b[rows]].tolist(), strict=True)
    words = zip(first_words(first, a, rows_a[rows]), first_words(second, b, rows_b[rows]), strict=True)
    return [
        {"example_id": name, "difficulty": list(pair), "words": one_line(in_first or in_second)}
        for name, pair, (in_first, in_second) in zip(ids, difficulties, words, strict=True)
    ]


def _mixture(first_run: Finished, second_run: Finished) -> dict[str, list[int]]:
    names = (
        "input",
        "hard",
        "original",
        "duplicate",
        "synthetic",
        "replay",
        "rejected",
        "rejected_proposals",
        "output",
    )
    return {name: [int(run.counts.get(name) or 0) for run in (first_run, second_run)] for name in names}


def _changes(first: Any, second: Any, *above: str) -> dict[str, list[Any]]:
    """{dotted key: [first value, second value]} of all keys that differ; None for a missing key."""
    if isinstance(first, list) and isinstance(second, list):
        first, second = ({str(k): item for k, item in enumerate(side)} for side in (first, second))
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return {} if first == second else {".".join(above): [first, second]}
    changes: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*first, *second]):
        changes |= _changes(look_up(first, key), look_up(second, key), *above, key)
    return changes
