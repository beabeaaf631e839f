"""The section "New problems": requested and kept problems, reasons, difficulty and cost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from curate.difficulty import figures
from curate.report import synthesis_funnel as funnel
from curate.report.check_rates import check_rates
from curate.report.finished_run import Finished, look_up, mapping
from curate.report.pairs import Attempts, kept_pairs, read_attempts, refused_pairs
from curate.verify.verdict import PassRateBand

_NEW = "#2a9079"
_FEWEST_DRAWN = 5  # measured problems; fewer make no distribution
BINS = 30
_NO_TABLE = "This folder has no tables/synthesis.parquet with the texts."


def new_problems(finished: Finished) -> dict[str, Any] | None:
    """Values for the template, with plotly figures by element id; None if nothing was synthesized."""
    records = funnel.records(finished.run)
    rows = finished.counts.get("synthetic")
    if not records and not rows:
        return None
    plots: dict[str, Any] = {}
    parts = []
    for number, record in enumerate(records):
        name = f"plot-right-{number}"
        figure = right_figure(record)
        if figure is not None:
            plots[name] = figure
        parts.append({**_part(record), "plot": None if figure is None else name})
    attempts = read_attempts(finished)
    figure = None if attempts is None else difficulty_figure(finished, attempts)
    if figure is not None:
        plots["plot-new-difficulty"] = figure
    return {
        "plots": plots,
        "rows": rows or 0,
        "parts": parts,
        "difficulty": figure is not None,
        **_texts(finished, attempts),
    }


def _texts(finished: Finished, attempts: Attempts | None) -> dict[str, Any]:
    if attempts is None:
        return {"kept": _NO_TABLE, "refused": _NO_TABLE}
    pairs, total = kept_pairs(attempts, finished.seed)
    refused = refused_pairs(finished, attempts)
    return {
        "kept": {"pairs": pairs, "all": total} if pairs else "No new problem was kept.",
        "refused": refused or "Every new problem was kept.",
    }


def _part(record: dict[str, Any]) -> dict[str, Any]:
    """Values for one synthesis: its funnel, settings and cost."""
    steps, band = funnel.steps(record), _band(record)
    tokens, requests, verdicts = (mapping(record, key) for key in ("tokens", "requests", "verdicts"))
    settings = ("generator", "of", "seconds", "budget", "budget_reached", "variants_per_row")
    return {
        **{key: record.get(key) for key in (*settings, "variation_prompt", "solution_prompt")},
        "advice": funnel.advice(record),
        "steps": steps,
        "lost_rows": funnel.lost_rows(record),
        "lost_problems": funnel.lost_problems(record),
        "checks": check_rates(record),
        "kept": look_up(record, "outcomes", "kept"),
        "asked": next((step.count for step in steps if step.name == "new problems asked for"), None),
        "rescored": funnel.rescored(record),
        "prompt_tokens": tokens.get("prompt"),
        "generated": tokens.get("generated"),
        "generated_now": tokens.get("generated in this run"),
        "requests": requests.get("made"),
        "from_the_store": requests.get("from the store"),
        "verdicts": {key: verdicts.get(key) for key in ("right", "wrong", "undecided")},
        "band": band,
        "in_band": _of_band(band),
    }


def _of_band(band: PassRateBand) -> str:
    return f"{band.low} to {band.high}" if band.low < band.high else f"exactly {band.low}"


def _band(record: dict[str, Any]) -> PassRateBand:
    """The band of the record; all zeros if it has none."""
    values = record.get("band")
    if isinstance(values, list) and len(values) == 3 and all(type(value) is int for value in values):
        return PassRateBand(*values)
    return PassRateBand(0, 0, 0)


def right_figure(record: dict[str, Any]) -> dict[str, Any] | None:
    """Histogram of problems by number of right solutions, colored by relation to the band; None without solutions."""
    band, listed = _band(record), record.get("right_of_drawn")
    triples = (
        [triple for triple in listed if isinstance(triple, list) and len(triple) == 3]
        if isinstance(listed, list)
        else []
    )
    if not triples or not band.samples:
        return None
    fewer, inside, more = f"fewer than {band.low}", f"{_of_band(band)}: in the band", f"more than {band.high}"
    names = {fewer: figures.HARD, inside: _NEW, more: figures.EASY, "not finished": figures.GREY}
    sizes: dict[str, dict[int, dict[int, int]]] = {name: defaultdict(dict) for name in names}
    for right, drawn, problems in triples:
        if band.decide(right, 0, drawn) is None:
            name = "not finished"
        else:
            name = fewer if right < band.low else more if right > band.high else inside
        sizes[name][right][drawn] = problems
    bars = []
    for name, color in names.items():
        by_right = sorted(sizes[name].items())
        if not by_right:
            continue
        breakdown = [
            ", ".join(f"{size:,} of {drawn} drawn" for drawn, size in sorted(size_of_drawn.items()))
            for _, size_of_drawn in by_right
        ]
        heights = [sum(size_of_drawn.values()) for _, size_of_drawn in by_right]
        bars.append(
            {
                "type": "bar",
                "name": name,
                "x": [right for right, _ in by_right],
                "y": heights,
                "customdata": breakdown,
                "marker": {"color": color, "line": {"width": 0}},
                "hovertemplate": "%{x} right: %{y:,} problems (%{customdata})<extra>" + name + "</extra>",
            }
        )
    most = max(right for right, _, _ in triples)
    axis = {"dtick": 1 if most <= 20 else None, "range": [-0.6, max(most, band.high + 1) + 0.6]}
    layout = figures.framed("right solutions", "problems", barmode="stack", bargap=0.25, xaxis=axis)
    return {"data": bars, "layout": layout}


def difficulty_figure(finished: Finished, attempts: Attempts) -> dict[str, Any] | None:
    """Distributions of difficulty of new problems, easy rows and hard rows; None with too few new problems."""
    rows, new = finished.rows, attempts.difficulty
    if rows is None or not rows.valid.any() or len(new) < _FEWEST_DRAWN:
        return None
    groups = [
        ("easy rows", rows.difficulty[rows.valid & ~rows.hard], figures.EASY, "dot"),
        ("hard rows", rows.difficulty[rows.valid & rows.hard], figures.HARD, "dash"),
        ("new problems", new, _NEW, "solid"),
    ]
    all_values = np.concatenate([values for _, values, _, _ in groups])
    edges = figures.bin_edges(all_values, BINS)
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": figures.rounded((edges[:-1] + edges[1:]) / 2),
            "y": figures.rounded(np.histogram(values, edges)[0] / len(values)),
            "line": {"color": color, "width": 3 if name == "new problems" else 2, "dash": dash, "shape": "hvh"},
            "hovertemplate": "%{y:.1%} of the " + name + " at about %{x:.3f}<extra></extra>",
        }
        for name, values, color, dash in groups
        if len(values)
    ]
    layout = figures.framed("difficulty", "share of its group", yaxis={"tickformat": ".0%", "rangemode": "tozero"})
    return {"data": lines, "layout": layout}
