"""Two finished runs side by side: rows that changed sides, how far they agree, what differs in the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.report.finished_run import Finished, Rows, look_up, mapping, read_finished

_LISTED = 10  # rows that changed sides, of each kind, with their difficulties


def run_difference(first: Path, second: Path) -> dict[str, Any]:
    """Plain JSON about two folders of `curate run`; "first" and "second" are in the order given.

    rows: in both, and in one alone. sides: rows hard in both, in one alone and in neither, of those scored in both;
    jaccard: hard in both over hard in either; None where none is. rank_correlation: Spearman, of difficulty. changed:
    some rows that changed sides, those whose difficulty lies farthest apart in rank first. mixture: rows of the results
    by origin. recipe: key -> the values of both, where they differ. Raises InputError for a folder without a result or
    without tables.
    """
    one, other = read_finished(first), read_finished(second)
    a, b = _rows(one), _rows(other)
    places = pc.index_in(a.ids, value_set=b.ids)
    mine = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    theirs = places.drop_null().to_numpy().astype(np.int64)
    common = len(mine)
    scored = a.valid[mine] & b.valid[theirs]
    mine, theirs = mine[scored], theirs[scored]
    hard_a, hard_b = a.hard[mine], b.hard[theirs]
    both, either = int((hard_a & hard_b).sum()), int((hard_a | hard_b).sum())
    ranks_a, ranks_b = _ranks(a.difficulty[mine]), _ranks(b.difficulty[theirs])
    apart = np.abs(ranks_a - ranks_b)
    return {
        "first": str(first),
        "second": str(second),
        "rows": {
            "in_both": common,
            "only_first": len(a.ids) - common,
            "only_second": len(b.ids) - common,
        },
        "sides": {
            "hard_in_both": both,
            "only_first": int((hard_a & ~hard_b).sum()),
            "only_second": int((hard_b & ~hard_a).sum()),
            "neither": len(mine) - either,
        },
        "jaccard": both / either if either else None,
        "rank_correlation": _correlation(ranks_a, ranks_b),
        "changed": {
            "only_first": _changed(a, b, mine, theirs, hard_a & ~hard_b, apart),
            "only_second": _changed(a, b, mine, theirs, hard_b & ~hard_a, apart),
        },
        "mixture": _mixture(one, other),
        "recipe": _changes(mapping(one.run, "recipe"), mapping(other.run, "recipe")),
    }


def _rows(finished: Finished) -> Rows:
    if finished.rows is None:
        raise InputError(f"{finished.directory} has no tables/split.parquet, so there are no rows to compare")
    return finished.rows


def _ranks(values: Any) -> Any:
    """(m,) ranks from 0 to 1, ties in order."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(1, len(values) - 1)


def _correlation(first: Any, second: Any) -> float | None:
    if len(first) < 3 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _changed(a: Rows, b: Rows, mine: Any, theirs: Any, which: Any, apart: Any) -> list[dict[str, Any]]:
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(-apart[rows], kind="stable")[:_LISTED]]
    ids = a.ids.take(pa.array(mine[rows])).to_pylist()
    difficulties = zip(a.difficulty[mine[rows]].tolist(), b.difficulty[theirs[rows]].tolist(), strict=True)
    return [
        {"example_id": name, "difficulty": [first, second]}
        for name, (first, second) in zip(ids, difficulties, strict=True)
    ]


def _mixture(one: Finished, other: Finished) -> dict[str, list[int]]:
    names = ("input", "hard", "original", "duplicate", "synthetic", "replay", "rejected", "output")
    return {name: [int(each.counts.get(name) or 0) for each in (one, other)] for name in names}


def _changes(first: Any, second: Any, *above: str) -> dict[str, list[Any]]:
    """Dotted key -> both values, of every key whose values differ; None where a recipe lacks it."""
    if isinstance(first, list) and isinstance(second, list):
        first, second = ({str(k): each for k, each in enumerate(side)} for side in (first, second))
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return {} if first == second else {".".join(above): [first, second]}
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*first, *second]):
        found |= _changes(look_up(first, key), look_up(second, key), *above, key)
    return found
