"""The section "Will copies help?": the numbers that the run recorded, as the template shows them."""

from __future__ import annotations

from typing import Any

from curate.mixture.forecast_words import curves_in_words, needed_in_words, next_in_words, parts_of
from curate.report.finished_run import mapping

MOST_CLUSTERS = 30
_VERDICT = ("verdict", "outcome", "reason", "command", "precision")
_ROW = ("name", "rows", "rows_after", "new", "share", "share_after", "steps", "epochs", "loss", "fall")
_ALL = (
    "hard_share",
    "rows",
    "rows_after",
    "distinct_rows",
    "effective_rows",
    "effective_share",
    "fitted_steps",
    "in_sample",
)


def will_copies_help(run: dict[str, Any]) -> dict[str, Any] | str:
    """Verdict, numbers and groups of rows; or why there are none, as in the folders of earlier versions."""
    found = mapping(run, "forecast")
    if not found:
        return "This run recorded no numbers about it; run it again with --fresh."
    clusters = parts_of(found)
    rows = [("all", found["hard"]), ("all", found["easy"]), *(("one", cluster) for cluster in clusters[:MOST_CLUSTERS])]
    return {
        "verdicts": [
            {key: each.get(key) for key in _VERDICT} | {"next": next_in_words(str(each.get("verdict"))).capitalize()}
            for each in found.get("verdicts") or [mapping(found, "verdict")]
        ],
        "curves": tuple(curves_in_words(found)),
        **{key: found.get(key) for key in _ALL},
        "groups": [{"kind": kind, **{key: each.get(key) for key in _ROW}} for kind, each in rows],
        "clusters": len(clusters),
        "needed": needed_in_words(found),
        "missing": found.get("missing") or (),
        "cautions": found.get("cautions") or (),
    }
