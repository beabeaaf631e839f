"""Records and warnings about reducible rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from curate.difficulty.reducible import Reducible
from curate.difficulty.scores import Split
from curate.errors import RunWarning

# Below this overlap, more than a third of the rows that are hard under one proxy seed are not under another.
MIN_SEED_JACCARD = 0.5


def reducible_record(splits: Sequence[Split]) -> dict[str, Any] | None:
    """Record of `Reducible` of the first split; None if it was not measured.

    splits: of the same rows under several proxy seeds, each with its own halves. With more than one, seed_agreement
    has {seeds, jaccard, jaccard_min} of the rows that are hard and reducible, over pairs of seeds, and the verdict and
    wrong share of each seed.
    """
    if splits[0].reducible is None:
        return None
    record = splits[0].reducible.to_json()
    reducible_of = [(split.hard & split.reducible.reducible, split.reducible) for split in splits if split.reducible]
    if len(reducible_of) < 2:
        return record
    pairs = [((a & b).sum(), (a | b).sum()) for (a, _), (b, _) in combinations(reducible_of, 2)]
    overlaps = [float(both / either) for both, either in pairs if either]
    return record | {
        "seed_agreement": {
            "seeds": len(reducible_of),
            "jaccard": float(np.mean(overlaps)) if overlaps else None,
            "jaccard_min": min(overlaps, default=None),
            "verdicts": [reducible.verdict for _, reducible in reducible_of],
            "wrong_shares": [reducible.wrong_share for _, reducible in reducible_of],
        }
    }


def wrong_rows(reducible: Reducible) -> RunWarning | None:
    """The warning likely_noise, based on the estimated share of wrong rows."""
    if not reducible.many_wrong:
        return None
    return RunWarning(
        "likely_noise",
        f"Of the hard rows {_estimate(reducible)} cannot be learned from the other rows: they are wrong, or of a kind "
        "that the data do not teach.",
        "Read those that report.html lists first (hard and not reducible in tables/split.parquet). Copy reducible rows "
        "alone (only: reducible); if the others are wrong, Subset(drop='irreducible') leaves them out.",
    )


def of_reducible(reducible: Reducible | None, record: dict[str, Any] | None, *, drops: bool) -> Iterator[RunWarning]:
    """Warnings about reducible rows.

    record: from `reducible_record`. drops: whether the plan leaves out hard rows that are not reducible.
    """
    if reducible is None:
        return
    if reducible.verdict == "cannot tell":
        yield RunWarning(
            "reducible_unknown",
            f"Which rows can be learned from the others cannot be determined ({reducible.reason}): only: reducible and "
            "drop: irreducible leave no row out.",
            "Read some of the hard rows before you copy them: in text tasks it failed where nearly all "
            "were wrong, and copies did harm.",
        )
    if drops and reducible.interval is not None and not reducible.many_wrong:
        yield RunWarning(
            "irreducible_dropped",
            f"Irreducible hard rows are left out, but of the hard rows {_estimate(reducible)} are wrong. In symbol "
            "tasks "
            "without wrong rows the loss changed by -24 and -10 % so, and by -35 and -46 % with copies of reducible "
            "rows alone (3 seeds).",
            "Take drop: irreducible out, or read the rows that it leaves out (tables/rejected.parquet) first.",
        )
    overlap = ((record or {}).get("seed_agreement") or {}).get("jaccard")
    if overlap is not None and overlap < MIN_SEED_JACCARD and reducible.verdict == "estimated":
        yield RunWarning(
            "reducible_unstable",
            f"Which hard rows are reducible depends on how the rows are divided: two seeds share {overlap:.0%} of the "
            "rows that either finds.",
            "Give more rows or more steps of the proxy (proxy.steps); do not act on single rows.",
        )


def _estimate(reducible: Reducible) -> str:
    assert reducible.interval is not None
    low, high = reducible.interval
    return f"an estimated {reducible.wrong_share:.0%} ({low:.0%} to {high:.0%})"
