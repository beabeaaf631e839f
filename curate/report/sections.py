"""What each section of the page says: numbers and sentences, without any markup.

A section whose input the run did not leave is an `Absent`, with the reason; the page then shows the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.console.formatting import as_label, correlation, count, decimal, one_line, real, share, times
from curate.report.finished_run import Finished, Output, Rows, look_up, mapping

__all__ = ["NO_SPLIT", "Absent", "Size", "SourceRow", "headline", "origins", "quality", "sources"]

MOST_SOURCES = 60
NO_SPLIT = "This folder has no tables/split.parquet."
_ORIGINS = ("original", "duplicate", "synthetic", "replay")


@dataclass(frozen=True)
class Absent:
    """A section that cannot be shown, and why."""

    reason: str


def headline(finished: Finished) -> tuple[str, str]:
    """Title and one or two sentences: what went in, what came out, what was done with the hard rows."""
    counts = mapping(finished.run, "counts")
    title = f"{count(counts.get('input'))} rows in, {count(counts.get('output'))} rows out"
    if "output_weighted" in counts:
        title += f" that count as {count(counts['output_weighted'])}"
    hard, valid = real(counts.get("hard")), real(counts.get("valid"))
    parts = []
    if hard is not None:
        of = f" ({share(hard / valid)} of the scored rows)" if valid else ""
        model = look_up(finished.run, "proxy", "model")
        name = "a proxy trained from scratch" if model == "scratch" else f"the proxy {one_line(str(model))}"
        how = f"were learned late by {name}" if model else "were scored as hard"
        parts.append(f"{count(hard)} rows{of} {how}{_shown(finished.rows, 'output_weighted' in counts)}.")
    left_out = 0 if finished.rows is None else sum(rows for _, rows in finished.rows.left_out)
    if left_out:
        parts.append(f"{count(left_out)} {'row was' if left_out == 1 else 'rows were'} left out.")
    for name, what in (("replay", "rows of replay data"), ("synthetic", "synthetic rows")):
        if real(counts.get(name)):
            parts.append(f"{count(counts[name])} {what} were added.")
    return title, " ".join(parts)


def _shown(rows: Rows | None, weighted: bool) -> str:
    if rows is None or rows.copies is None or not rows.hard.any():
        return ""
    copies, verb = rows.copies[rows.hard], "count" if weighted else "are shown"
    if copies.min() == copies.max():
        return f" and {verb} {times(float(copies[0]))}"
    return f" and {verb} {times(float(copies.mean()))} on average"


@dataclass(frozen=True)
class Size:
    """Rows of one origin, their share of the output, and their completion tokens (None = not counted).

    weighted: the sum of their weights, of which `share` then is a share; None where copies are rows of their own.
    """

    name: str
    rows: int
    share: float | None
    tokens: int | None
    weighted: float | None = None


def origins(finished: Finished, output: Output | None) -> list[Size] | Absent:
    """Sizes of the input, of each origin in the output, and last of the whole output."""
    if output is None or finished.rows is None:
        return Absent("Sizes need data/ and tables/split.parquet, and this folder lacks one of them.")
    before, after = (look_up(finished.run, "counts", f"tokens_{when}") for when in ("before", "after"))
    total, weight = len(output.parent), output.weight
    counted = float(total if weight is None else weight.sum())
    sizes = [Size("input", len(finished.rows.ids), None, before)]
    for name in sorted(output.origins, key=lambda name: (_ORIGINS.index(name) if name in _ORIGINS else 9, name)):
        of_origin = output.origin == output.origins.index(name)
        rows = int(of_origin.sum())
        parents = output.parent[of_origin & output.copied]
        known = finished.rows.tokens is not None and len(parents) == rows
        tokens = int(finished.rows.tokens[parents].sum()) if finished.rows.tokens is not None and known else None
        weighted = None if weight is None else float(weight[of_origin].sum())
        sizes.append(Size(name, rows, (rows if weighted is None else weighted) / counted, tokens, weighted))
    return [*sizes, Size("output", total, None, after, None if weight is None else counted)]


@dataclass(frozen=True)
class SourceRow:
    """One source: rows and completion tokens before and after (None = not counted), and its hard rows.

    weighted: the sum of the weights of its rows after; None where copies are rows of their own.
    """

    name: str
    before: int
    after: int | None
    tokens_before: int | None
    tokens_after: int | None
    hard: int
    hard_share: float | None
    weighted: float | None = None


def sources(finished: Finished, output: Output | None) -> tuple[list[SourceRow], int] | Absent:
    """The largest sources, sorted by the share of their scored rows that is hard; and how many there are."""
    rows = finished.rows
    if rows is None:
        return Absent(NO_SPLIT)
    if rows.source is None:
        return Absent("The rows name no source; give the column with --columns source=NAME to compare sources.")
    n = len(rows.source_names) + 1
    names = (*rows.source_names, "(no source given)")
    code = np.where(rows.source < 0, n - 1, rows.source)
    before, scored, hard = (np.bincount(code[mask], minlength=n) for mask in (code >= 0, rows.valid, rows.hard))
    tokens = None if rows.tokens is None else np.bincount(code, rows.tokens, minlength=n)
    after = tokens_after = weighted = None
    if output is not None:
        child = np.where(output.parent < 0, -1, code[output.parent])
        after = np.bincount(child[child >= 0], minlength=n)
        if output.weight is not None:
            weighted = np.bincount(child[child >= 0], output.weight[child >= 0], minlength=n)
        copied = output.parent[output.copied]
        if rows.tokens is not None:
            # What was written anew for a source was never counted, so its sum is not known.
            whole = np.bincount(code[copied], minlength=n) == after
            tokens_after = np.where(whole, np.bincount(code[copied], rows.tokens[copied], minlength=n), np.nan)

    def entry(values: npt.NDArray[Any] | None, i: int) -> int | None:
        return None if values is None or np.isnan(values[i]) else int(values[i])

    shown = [
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
        for i in np.argsort(-before, kind="stable")[:MOST_SOURCES].tolist()
        if before[i]
    ]
    shown.sort(key=lambda row: (-(row.hard_share or 0), -row.before, row.name))
    return shown, int((before > 0).sum())


def quality(run: dict[str, Any]) -> list[tuple[str, str, str]] | Absent:
    """(what was measured, the number, what it means) for each diagnostic the run recorded."""
    found = mapping(run, "diagnostics")
    if not found:
        return Absent("The run recorded no diagnostics.")
    return [
        _silhouette(found),
        *_agreement(found, "seed_agreement", "Agreement between proxy seeds"),
        *_agreement(found, "feature_agreement", "Agreement with a split on final loss alone"),
        _length(found),
        *_divergence(found),
        *_noise(found),
    ]


def _silhouette(found: dict[str, Any]) -> tuple[str, str, str]:
    value = real(found.get("silhouette"))
    name = "Separation of the clusters (silhouette)"
    if value is None:
        return name, decimal(None), "Not measured: it needs at least two clusters."
    # The bands are those of Kaufman and Rousseeuw, Finding Groups in Data (1990), table 4.
    bands = ((0.70, "strong structure"), (0.50, "reasonable structure"), (0.25, "weak structure"))
    word = next((word for bound, word in bands if value > bound), "no substantial structure")
    rows = found.get("silhouette_rows")
    over = f", on a sample of {count(rows)} rows" if real(rows) else ""
    meaning = "1 means far apart, 0 touching. Losses are a continuum, so moderate values are usual."
    return name, correlation(value), f"{word.capitalize()}{over}. {meaning}"


def _agreement(found: dict[str, Any], key: str, name: str) -> list[tuple[str, str, str]]:
    value = found.get(key)
    if not isinstance(value, dict):
        if key == "seed_agreement":
            remedy = "Not measured; --stability 3 trains the proxy with three seeds and compares the splits."
            return [(name, decimal(None), remedy)]
        return []
    overlap, index = real(value.get("jaccard")), real(value.get("ari"))
    said = f"Of the rows that either split calls hard, {share(overlap)} are hard in both."
    if (real(value.get("seeds")) or 0) > 2:
        worst = share(value.get("jaccard_min"))
        said = f"{said[:-1]} (the mean over the pairs of {count(value['seeds'])} seeds; the worst pair {worst})."
    return [
        (
            name,
            share(overlap),
            f"{said} Adjusted Rand index {correlation(index)} (1 = the same split, 0 = chance).",
        )
    ]


def _length(found: dict[str, Any]) -> tuple[str, str, str]:
    value = real(found.get("length_correlation"))
    name = "Difficulty and length (Spearman)"
    if value is None:
        return name, decimal(None), "Not measured."
    if abs(value) < 0.2:
        return name, correlation(value), "Difficulty is hardly related to the length of the completion."
    strength, harder = "partly" if abs(value) < 0.5 else "largely", "long" if value > 0 else "short"
    said = f"Difficulty is {strength} a matter of length: {harder} completions tend to be the hard ones."
    return name, correlation(value), said


def _divergence(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    value = mapping(found, "diverged")
    if not value:
        return []
    good = value.get("ok")
    word = ("yes" if good else "no") if isinstance(good, bool) else decimal(None)
    said = "Losses fell, and the clusters moved apart while the proxy trained."
    if good is False:
        said = "Losses have not fallen or not moved apart enough for early and late learned rows to differ."
    numbers = "; ".join(f"{as_label(key)} {decimal(item)}" for key, item in value.items() if real(item) is not None)
    return [("Did the trajectories diverge?", word, f"{said} {numbers[:1].upper()}{numbers[1:]}".strip())]


def _noise(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    value = mapping(found, "noise")
    if real(value.get("suspects")) is None:
        return []
    if value["suspects"] == 0:
        return [("Rows whose loss stays high", share(0), "No row has a loss that stays high and hardly falls.")]
    said = (
        f"{count(value['suspects'])} rows have a loss that stays high and hardly falls. This does not tell "
        "wrong answers from right ones of rare skills that the proxy has not reached yet: read the examples below."
    )
    return [("Rows whose loss stays high", share(value.get("share")), said)]
