"""The section "New problems": what was asked for, what was kept and why, how hard it is, and what it cost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from curate.console.formatting import count, duration, one_line, real, share
from curate.report import figures
from curate.report import synthesis_funnel as funnel
from curate.report.finished_run import Finished, look_up, mapping
from curate.report.pairs import Attempts, kept_pairs, read_attempts, refused_pairs
from curate.verify.pass_rate import Band

__all__ = ["new_problems", "rescored_sentences"]

NEW = "#2a9079"
FEWEST_DRAWN = 5  # measured problems; fewer make no distribution
BINS = 30
_NO_TABLE = "This folder has no tables/synthesis.parquet with the texts."


def new_problems(finished: Finished) -> dict[str, Any] | None:
    """What the template shows, with the plotly figures by element id; None where nothing was synthesised."""
    run = finished.run
    found = funnel.records(run)
    rows = real(finished.counts.get("synthetic"))
    if not found and not rows:
        return None
    plots: dict[str, Any] = {}
    parts = []
    for number, record in enumerate(found):
        name = f"plot-right-{number}"
        figure = right_figure(record)
        if figure is not None:
            plots[name] = figure
        parts.append(_part(record, run, None if figure is None else name))
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
    pairs, every = kept_pairs(attempts, finished.seed)
    refused = refused_pairs(finished, attempts)
    return {
        "kept": {"pairs": pairs, "all": every} if pairs else "No new problem was kept.",
        "refused": refused or "Every new problem was kept.",
    }


def _part(record: dict[str, Any], run: dict[str, Any], plot: str | None) -> dict[str, Any]:
    steps = funnel.steps(record)
    again = funnel.rescored(record)
    asked = next((step.count for step in steps if step.name == "new problems asked for"), None)
    kept = int(real(look_up(record, "outcomes", "kept")) or 0)
    generated = real(look_up(record, "tokens", "generated"))
    return {
        "lead": _lead(record),
        "advice": funnel.advice(record),
        "steps": steps,
        "lost_rows": funnel.lost_rows(record),
        "lost_problems": funnel.lost_problems(record),
        "kept": kept,
        "asked": asked,
        "rescored": again,
        "rescored_says": rescored_sentences(again, kept, real(look_up(run, "diagnostics", "hard_share"))),
        "tokens_per_kept": generated / kept if generated and kept else None,
        "generated": generated,
        "seconds": look_up(record, "seconds"),
        "plot": plot,
        "undecided": look_up(record, "verdicts", "undecided"),
        "high": _band(record).high,
        "samples": _band(record).samples,
        "facts": facts(record),
    }


def _lead(record: dict[str, Any]) -> str:
    band = _band(record)
    model = one_line(str(record.get("generator") or "A language model"), 80)
    kinds = {"easy": "easy rows", "random": "rows drawn at random"}
    rows = kinds.get(str(record.get("of")), "hard rows")
    if not band.samples:
        return f"{model} wrote new problems from the solutions of {rows}."
    return (
        f"{model} read the solutions of {rows}, without their problems, and wrote new problems that they answer. It "
        f"then solved each up to {count(band.samples)} times. A new problem is kept if {_of_band(band)} of these "
        "solutions reach the final answer of the original row: none right means that it is broken or out of reach, "
        "most right that it is easy."
    )


def _of_band(band: Band) -> str:
    return f"{band.low} to {band.high}" if band.low < band.high else f"exactly {band.low}"


def _band(record: dict[str, Any]) -> Band:
    """The band of the record; all zeros where it has none."""
    values = record.get("band")
    if isinstance(values, list) and len(values) == 3 and all(real(value) is not None for value in values):
        return Band(*(int(value) for value in values))
    return Band(0, 0, 0)


def rescored_sentences(again: funnel.Rescored | None, kept: int, hard_share: float | None) -> str:
    """What the share of new problems that are hard again means. hard_share: of the input's scored rows."""
    if again is None and not kept:
        return "No new problem was left to be measured."
    if again is None:
        return (
            "It is not known how many new problems are hard: none was measured. They are measured only where the run "
            "trains a proxy itself, and not where its scores come from a file."
        )
    said = [
        f"{count(again.hard)} of the {count(again.measured)} new problems that were measured at the proxy's "
        "checkpoints, like the input, fall into a hard cluster."
    ]
    if hard_share is not None:
        base = f"rows of the input ({share(hard_share)})"
        if again.low > hard_share:
            said.append(f"New problems are hard more often than {base}: difficulty is handed on.")
        elif again.high < hard_share:
            said.append(
                f"New problems are hard less often than {base}: what was made is easier than what it is made from."
            )
        else:
            said.append(
                f"That cannot be told apart from the share among {base}; more problems would narrow the interval."
            )
    said.append("Published work on this method saw about half.")
    if again.invalid:
        said.append(f"{count(again.invalid)} more could not be measured.")
    return " ".join(said)


def facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of cost and settings."""
    tokens, requests, verdicts = (mapping(record, key) for key in ("tokens", "requests", "verdicts"))
    band, kept = _band(record), real(look_up(record, "outcomes", "kept")) or 0
    generated, fresh = real(tokens.get("generated")), real(tokens.get("generated in this run"))
    seconds = real(record.get("seconds"))
    reached = "reached" if record.get("budget_reached") else "not reached"
    budget = record.get("budget")
    return [
        ("Generator", one_line(str(record.get("generator") or "not recorded"), 120)),
        (
            "Requests",
            f"{count(requests.get('made'))} made, {count(requests.get('from the store'))} taken from the store",
        ),
        ("Prompt tokens", count(tokens.get("prompt"))),
        ("Generated tokens", f"{count(generated)}, of which {count(fresh)} in this run"),
        (
            "Generated tokens per kept problem",
            count(generated / kept) if generated is not None and kept else "none kept",
        ),
        ("Time at the generator", f"{duration(seconds)}" if fresh else "none: everything came from the store"),
        ("Generated tokens per second", count(fresh / seconds if fresh and seconds else None)),
        ("Budget", "none set" if budget is None else f"{count(budget)} generated tokens, {reached}"),
        ("Solutions graded", ", ".join(f"{count(verdicts.get(key))} {key}" for key in ("right", "wrong", "undecided"))),
        ("Band", f"{_of_band(band)} right of {band.samples}" if band.samples else "not recorded"),
        ("New problems per row", count(record.get("variants_per_row"))),
        ("Digest of the variation prompt", one_line(str(record.get("variation_prompt") or "not recorded"))),
        ("Digest of the solution prompt", one_line(str(record.get("solution_prompt") or "not recorded"))),
    ]


def right_figure(record: dict[str, Any]) -> dict[str, Any] | None:
    """Problems by right solutions, coloured by where that lies to the band; None where no problem was solved."""
    band, listed = _band(record), record.get("right_of_drawn")
    triples = [each for each in listed if isinstance(each, list) and len(each) == 3] if isinstance(listed, list) else []
    if not triples or not band.samples:
        return None
    fewer, inside, more = f"fewer than {band.low}", f"{_of_band(band)}: in the band", f"more than {band.high}"
    names = {fewer: figures.HARD, inside: NEW, more: figures.EASY, "not finished": figures.GREY}
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
        told = [", ".join(f"{size:,} of {drawn} drawn" for drawn, size in sorted(each.items())) for _, each in by_right]
        heights = [sum(each.values()) for _, each in by_right]
        bars.append(
            {
                "type": "bar",
                "name": name,
                "x": [right for right, _ in by_right],
                "y": heights,
                "customdata": told,
                "marker": {"color": color, "line": {"width": 0}},
                "hovertemplate": "%{x} right: %{y:,} problems (%{customdata})<extra>" + name + "</extra>",
            }
        )
    most = max(right for right, _, _ in triples)
    axis = {"dtick": 1 if most <= 20 else None, "range": [-0.6, max(most, band.high + 1) + 0.6]}
    layout = figures.framed("right solutions", "problems", barmode="stack", bargap=0.25, xaxis=axis)
    return {"data": bars, "layout": layout}


def difficulty_figure(finished: Finished, attempts: Attempts) -> dict[str, Any] | None:
    """Difficulty of new problems over that of the easy and the hard rows, each as shares of its own group."""
    rows, new = finished.rows, attempts.difficulty
    if rows is None or not rows.valid.any() or len(new) < FEWEST_DRAWN:
        return None
    groups = [
        ("easy rows", rows.difficulty[rows.valid & ~rows.hard], figures.EASY, "dot"),
        ("hard rows", rows.difficulty[rows.valid & rows.hard], figures.HARD, "dash"),
        ("new problems", new, NEW, "solid"),
    ]
    every = np.concatenate([values for _, values, _, _ in groups])
    low, high = (float(value) for value in np.percentile(every, (0, 99.9)))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
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
