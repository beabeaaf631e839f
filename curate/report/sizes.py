"""The sections "Before and after" and "Sources": rows and tokens by origin and by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.report.finished_run import NO_SPLIT, Finished, Rows

_MOST_SOURCES = 60
_ROWS_AT_ONCE = 1 << 20
_ORIGINS = ("original", "duplicate", "synthetic", "replay")


def hard_copies(rows: Rows | None) -> tuple[float, bool] | None:
    """(mean planned occurrences of hard rows, whether all are equal); None if not known."""
    if rows is None or rows.copies is None or not rows.hard.any():
        return None
    copies = rows.copies[rows.hard]
    return float(copies.mean()), bool(copies.min() == copies.max())


@dataclass(frozen=True)
class Size:
    """Rows of one origin, their share of the output, and their completion tokens (None = not counted).

    weighted: sum of their weights, to which `share` then refers; None if copies are separate rows.
    """

    name: str
    rows: int
    share: float | None
    tokens: int | None
    weighted: float | None = None


def origins(finished: Finished) -> list[Size] | str:
    """Sizes of the input, of each origin in the output, and of the whole output; or why there are none."""
    output = finished.output
    if output is None or finished.rows is None:
        return "Sizes need data/ and tables/split.parquet, and this folder lacks one of them."
    before, after = (finished.counts.get(f"tokens_{when}") for when in ("before", "after"))
    total, weight = len(output.parent), output.weight
    counted = float(total if weight is None else weight.sum())
    sizes = [Size("input", len(finished.rows.ids), None, before)]
    for name in sorted(output.origins, key=lambda name: (_ORIGINS.index(name) if name in _ORIGINS else 9, name)):
        of_origin = output.origin == output.origins.index(name)
        rows = int(of_origin.sum())
        parents = output.parent[of_origin & output.copied]
        all_counted = finished.rows.tokens is not None and len(parents) == rows
        tokens = int(finished.rows.tokens[parents].sum()) if finished.rows.tokens is not None and all_counted else None
        weighted = None if weight is None else float(weight[of_origin].sum())
        sizes.append(Size(name, rows, (rows if weighted is None else weighted) / counted, tokens, weighted))
    return [*sizes, Size("output", total, None, after, None if weight is None else counted)]


@dataclass(frozen=True)
class SourceRow:
    """One source: rows and completion tokens before and after (None = not counted), and its hard rows.

    weighted: sum of the weights of its rows in the output; None if copies are separate rows.
    """

    name: str
    before: int
    after: int | None
    tokens_before: int | None
    tokens_after: int | None
    hard: int
    hard_share: float | None
    weighted: float | None = None


def sources(finished: Finished) -> tuple[list[SourceRow], int] | str:
    """The largest sources sorted by their share of hard rows, and the number of sources; or why there are none."""
    rows, output = finished.rows, finished.output
    if rows is None:
        return NO_SPLIT
    if rows.source is None:
        return "The rows name no source; give the column with --columns source=NAME to compare sources."
    n = len(rows.source_names) + 1
    names = (*rows.source_names, "(no source given)")
    code = np.where(rows.source < 0, n - 1, rows.source)  # (rows,) number of the source
    before, scored, hard = (np.bincount(code[mask], minlength=n) for mask in (code >= 0, rows.valid, rows.hard))
    tokens = None if rows.tokens is None else np.bincount(code, rows.tokens, minlength=n)
    after = tokens_after = weighted = None
    if output is not None:
        after, of_copies = np.zeros(n, np.int64), np.zeros(n, np.int64)  # (n,) rows
        weighted = None if output.weight is None else np.zeros(n)
        copied_tokens = None if rows.tokens is None else np.zeros(n)
        for low in range(0, len(output.parent), _ROWS_AT_ONCE):  # bincount makes copies of what it counts
            block = slice(low, low + _ROWS_AT_ONCE)
            parent, copied = output.parent[block], output.parent[block][output.copied[block]]
            derived = parent >= 0
            after += np.bincount(code[parent[derived]], minlength=n)
            if weighted is not None and output.weight is not None:
                weighted += np.bincount(code[parent[derived]], output.weight[block][derived], minlength=n)
            if copied_tokens is not None and rows.tokens is not None:
                of_copies += np.bincount(code[copied], minlength=n)
                copied_tokens += np.bincount(code[copied], rows.tokens[copied], minlength=n)
        if copied_tokens is not None:
            # Tokens of synthetic rows are not counted, so the sum is not known for sources that have any.
            tokens_after = np.where(of_copies == after, copied_tokens, np.nan)  # (n,)

    def entry(values: npt.NDArray[Any] | None, i: int) -> int | None:
        return None if values is None or np.isnan(values[i]) else int(values[i])

    entries = [
        SourceRow(
            name=names[i],
            before=int(before[i]),
            after=entry(after, i),
            tokens_before=entry(tokens, i),
            tokens_after=entry(tokens_after, i),
            hard=int(hard[i]),
            hard_share=hard[i] / scored[i] if scored[i] else None,
            weighted=entry(weighted, i),
        )
        for i in np.argsort(-before, kind="stable")[:_MOST_SOURCES].tolist()
        if before[i]
    ]
    entries.sort(key=lambda row: (-(row.hard_share or 0), -row.before, row.name))
    return entries, int((before > 0).sum())
