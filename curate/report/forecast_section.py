"""The section "Will copies help?": recorded numbers in the form that the template takes."""

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
    """Verdict, numbers and groups of rows; or why there are none, as in folders of earlier versions."""
    record = mapping(run, "forecast")
    if not record:
        return "This run recorded no numbers about it; run it again with --fresh."
    clusters = parts_of(record)
    rows = [
        ("all", record["hard"]),
        ("all", record["easy"]),
        *(("one", cluster) for cluster in clusters[:MOST_CLUSTERS]),
    ]
    return {
        "verdicts": [
            {key: verdict.get(key) for key in _VERDICT}
            | {"next": next_in_words(str(verdict.get("verdict"))).capitalize()}
            for verdict in record.get("verdicts") or [mapping(record, "verdict")]
        ],
        "curves": tuple(curves_in_words(record)),
        **{key: record.get(key) for key in _ALL},
        "groups": [{"kind": kind, **{key: verdict.get(key) for key in _ROW}} for kind, verdict in rows],
        "clusters": len(clusters),
        "needed": needed_in_words(record),
        "missing": record.get("missing") or (),
        "cautions": record.get("cautions") or (),
    }
