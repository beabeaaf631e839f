"""Render a comparison as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.comparison import figures
from curate.comparison.differences import BALANCED, MEAN_OF_SETS, distinct
from curate.comparison.figures import Curve
from curate.comparison.outcomes import Example, Outcome
from curate.comparison.runs import MAIN_ARM, budget_name
from curate.comparison.side_by_side import cells
from curate.comparison.text import UNITS, detectable, headline, interval, relative, signed, value
from curate.errors import InputError
from curate.report.run_page import rendered
from curate.storage.atomic import publish_file
from curate.storage.places import check_place

_MOST_BARS = 4  # plots by level, and by source
_NAMES = {"accuracy": "Accuracy", "nll": "Loss on the reference answers"}


def write_comparison(
    record: dict[str, Any], curves: Sequence[Curve], outcomes: Sequence[Outcome], report: Path
) -> Path:
    """Write the page `report` (.html) and comparison.json beside it; returns the path of the latter."""
    check_report(report)
    record_path = report.parent / "comparison.json"
    publish_file(report, comparison_page(record, curves, outcomes))
    publish_file(record_path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record_path


def check_report(path: Path) -> None:
    """Raise InputError if no page can be written there; called before anything is computed."""
    if path.suffix != ".html" or path.is_dir():
        raise InputError(f"--out {path} is not a page; give a name that ends in .html")
    check_place(path)


def comparison_page(record: dict[str, Any], curves: Sequence[Curve], outcomes: Sequence[Outcome]) -> str:
    """The HTML page of a comparison.json record; deterministic."""
    plots: dict[str, Any] = {}
    arms = list(dict.fromkeys(arm["arm"] for arm in record["arms"]))
    colors = figures.arm_colors(arms, record["baseline"])
    title, sentences = headline(record)
    context = {
        "title": title,
        "lead": sentences[0],
        "others": sentences[1:],
        "record": record,
        "primary": [difference for difference in record["differences"] if difference["primary"]],
        "budgets": len({difference["budget"] for difference in record["differences"]}) > 1,
        "metrics": [_metric(record, metric, plots) for metric in ("accuracy", "nll") if _has(record, metric)],
        "breakdown": [_breakdown(record, kind, colors, plots) for kind in ("levels", "sources") if record[kind]],
        "curves": _curves(curves, colors, plots),
        "outcomes": [_outcome(outcome) for outcome in outcomes],
        "nothing_generated": record["primary"]["metric"] == "nll",
        "show_cells": cells,
        "show_value": value,
        "show_signed": signed,
        "show_interval": interval,
        "show_relative": relative,
        "show_detectable": detectable,
        "show_budget": budget_name,
        "main_arm": MAIN_ARM,
        "units": UNITS,
        "seeds": sorted({seed for arm in record["arms"] for seed in arm["seeds"]}),
    }
    return rendered("comparison.html.j2", {**context, "plots": plots})


def _has(record: dict[str, Any], metric: str) -> bool:
    return any(difference["metric"] == metric for difference in record["differences"])


def to_draw(record: dict[str, Any], metric: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The differences of one metric that fit into a forest plot, and all of them."""
    rows = distinct([difference for difference in record["differences"] if difference["metric"] == metric])
    plotted = [row for row in rows if row["set"] not in (MEAN_OF_SETS, BALANCED)]
    if len(plotted) > figures.MOST_DRAWN:
        plotted = [row for row in rows if row["set"] == "pooled"][: figures.MOST_DRAWN]
    return plotted, rows


def _metric(record: dict[str, Any], metric: str, plots: dict[str, Any]) -> dict[str, Any]:
    """The differences of one metric, with their forest plot."""
    plotted, rows = to_draw(record, metric)
    budgets = len({row["budget"] for row in rows}) > 1
    name = f"plot-forest-{metric}"
    plots[name], height = figures.forest(plotted, metric, budgets=budgets)
    return {
        "metric": metric,
        "name": _NAMES[metric],
        "rows": rows,
        "pooled": [row for row in rows if row["set"] == "pooled"],
        "single": [row for row in rows if row["set"] != "pooled"],
        "controls": [row for row in record["against_controls"] if row["metric"] == metric],
        "plot": name,
        "height": height,
        "left_out": len(rows) - len(plotted),
        "sets": [evaluation_set for evaluation_set in record["sets"] if evaluation_set["metric"] == metric],
    }


def _breakdown(
    record: dict[str, Any], kind: str, colors: dict[str, tuple[str, str]], plots: dict[str, Any]
) -> dict[str, Any]:
    """Levels or sources: bar plots of the primary metric at the first budget that has them, and a table of all."""
    label, metric = kind.removesuffix("s"), record["primary"]["metric"]
    rows = record[kind]
    budget = rows[0]["budget"]
    panels: list[dict[str, str]] = []
    for name in list(dict.fromkeys(row["set"] for row in rows)):
        chosen = [row for row in rows if (row["set"], row["metric"], row["budget"]) == (name, metric, budget)]
        if chosen and len(panels) < _MOST_BARS:
            plot = f"plot-{kind}-{len(panels)}"
            plots[plot] = figures.bars(chosen, label, record["baseline"], colors)
            panels.append({"set": name, "plot": plot})
    return {"kind": kind, "label": label, "budget": budget, "plots": panels, "rows": rows, "metric": metric}


def _curves(curves: Sequence[Curve], colors: dict[str, tuple[str, str]], plots: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for number, budget in enumerate(dict.fromkeys(curve.budget for curve in curves)):
        part = [curve for curve in curves if curve.budget == budget]
        row: dict[str, Any] = {"budget": budget}
        for metric in ("loss", "gradient_norm"):
            figure = figures.curves(part, metric, colors)
            name = f"plot-{metric.replace('_', '-')}-{number}"
            row[metric] = name if figure["data"] else None
            if figure["data"]:
                plots[name] = figure
        if row["loss"]:
            rows.append(row)
    return rows


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "arm": outcome.arm,
        "budget": outcome.budget,
        "won": outcome.won,
        "lost": outcome.lost,
        "drawn": outcome.drawn,
        "sides": [
            {"name": "won", "examples": [_example(gain, outcome.metric) for gain in outcome.gains]},
            {"name": "lost", "examples": [_example(loss, outcome.metric) for loss in outcome.losses]},
        ],
    }


def _example(example: Example, metric: str) -> dict[str, Any]:
    completions = []
    if example.arm_completion is not None or example.baseline_completion is not None:
        completions = [("arm", example.arm_completion), ("baseline", example.baseline_completion)]
    return {
        "set": example.set,
        "identity": example.identity,
        "level": example.level,
        "source": example.source,
        "question": example.question,
        "answer": example.answer,
        "arm_score": value(metric, example.arm_score),
        "baseline_score": value(metric, example.baseline_score),
        "completions": completions,
    }
