"""Warnings about a split whose diagnostics are out of range, each with a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.clusterers.per_source import collapsed_sources
from curate.difficulty.diagnostics import MIN_FALL, MIN_SEPARATION, MIN_SPEED_SPREAD, Diagnostics, measure_split
from curate.difficulty.reducible_report import MIN_SEED_JACCARD, of_reducible, wrong_rows
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import HardPolicy
from curate.errors import RunWarning

# One source holds this share of the hard rows ...
MAX_SOURCE_SHARE = 0.8
# ... and at least this many times its share of all rows: the split tells sources apart, not rows.
MIN_SOURCE_LIFT = 1.5
# From here on, length explains more than a third of the order of difficulty (0.6 squared).
MAX_LENGTH_CORRELATION = 0.6
# Above this share of the rebuilt mixture, most of every batch is hard and easy rows become the exception.
MAX_HARD_AFTER = 0.5
# Repeating wrong rows does harm, and if these are wrong, one in ten of the hard rows is not a rounding error.
MAX_NOISE_AMONG_HARD = 0.1
# A few rows that are too long are expected; above this share a setting is probably wrong.
MAX_INVALID = MAX_TRUNCATED = 0.01


class Truncated(NamedTuple):
    """Numbers of rows longer than the proxy's max_length, and of rows with truncated prompts and completions."""

    rows: int
    prompts: int
    completions: int


def diagnose(
    scores: Scores,
    split: Split,
    *,
    clusterer: Any = None,
    hard: HardPolicy = "highest",
    tokens: npt.NDArray[Any] | None = None,
    seed: int = 0,
    counts: npt.NDArray[Any] | None = None,
    uses_hard: bool = True,
    truncated: Truncated | None = None,
    others: Sequence[Split] = (),
    drops_irreducible: bool = False,
    capped: tuple[int, str] | None = None,
) -> Diagnostics:
    """Statistics of `split`, which was made from `scores` (joined by id), and warnings about them.

    The thresholds mark numbers that deserve a look, not errors: a warning changes nothing.

    clusterer, hard: those of the split, to compute the split by final loss for feature_agreement, and the sources that
        are too small to cluster.
    tokens: (n,) completion tokens in the order of the split; None = those of the scores.
    counts: (n,) planned occurrences of each row, for the share of hard rows in the new mixture; None = not known.
    uses_hard: whether hard rows matter to the plan; if not, the lack of hard rows is not a warning.
    truncated: numbers of truncated rows; None = not known.
    others: splits of the same rows under other proxy seeds.
    capped: steps after which the proxy stopped because its schedule ended before the split had settled, and what still
        changed.
    drops_irreducible: whether the plan leaves out hard rows that are not reducible.

    Raises InputError if a valid row's trajectory is not finite, or the rows of the splits differ.
    """
    diagnostics = measure_split(scores, split, clusterer, hard, tokens, seed, others)
    warnings = _split_warnings(diagnostics, split, clusterer, counts, uses_hard, truncated)
    warnings += tuple(of_reducible(split.reducible, diagnostics.reducible, drops=drops_irreducible))
    if capped is not None:
        warnings += (_not_settled(*capped),)
    return replace(diagnostics, warnings=warnings)


def _split_warnings(
    diagnostics: Diagnostics,
    split: Split,
    clusterer: Any,
    counts: npt.NDArray[Any] | None,
    uses_hard: bool,
    truncated: Truncated | None,
) -> tuple[RunWarning, ...]:
    """The warnings for `diagnostics` of `split`; for the other arguments see `diagnose`."""
    warnings = (
        _rows_invalid(split),
        _rows_truncated(split, truncated),
        _source_too_small(split, clusterer),
        _one_cluster(split) if uses_hard else None,
        _split_unstable(diagnostics),
        _not_diverged(diagnostics),
        _hard_is_one_source(diagnostics, split),
        _hard_is_length(diagnostics),
        _hard_too_large(diagnostics, split, counts),
        _likely_noise(diagnostics, split),
    )
    return tuple(warning for warning in warnings if warning)


def _rows_invalid(split: Split) -> RunWarning | None:
    invalid = int((~split.valid).sum())
    if invalid <= MAX_INVALID * len(split):
        return None
    return RunWarning(
        "rows_invalid",
        f"{_share_of_rows(invalid, len(split))} could not be scored: they have no completion text, or the scorer gave "
        "them no number. They are kept once and not clustered.",
        "Check that --columns names the right ones, or remove these rows.",
    )


def _rows_truncated(split: Split, truncated: Truncated | None) -> RunWarning | None:
    if truncated is None or truncated.rows <= MAX_TRUNCATED * len(split):
        return None
    return RunWarning(
        "rows_truncated",
        f"{_share_of_rows(truncated.rows, len(split))} are longer than the proxy reads: {truncated.prompts:,} lost "
        f"older turns or the beginning of their prompt, {truncated.completions:,} the end of their completion.",
        "Raise proxy.max_length; --set proxy.max_length=auto keeps 99% of the rows whole where the model can.",
    )


def _share_of_rows(part: int, rows: int) -> str:
    return f"{part:,} of {rows:,} rows ({part / rows:.1%})"


def _source_too_small(split: Split, clusterer: Any) -> RunWarning | None:
    if not split.per_source or split.sources is None or clusterer is None:
        return None
    valid = split.sources[split.valid]
    small, needed, clusters = collapsed_sources(clusterer, valid, len(valid))
    if not small:
        return None
    name, rows = min(small.items(), key=lambda item: item[1])
    first = "The group without a source" if name is None else f"Source {name!r}"
    first += f" has {rows:,} row{'s' if rows > 1 else ''}"
    first += f" for {clusters:,} clusters" if clusters == needed else f" and the clusterer needs {needed:,}"
    more = f" (too small as well: {len(small) - 1:,} more)" if len(small) > 1 else ""
    return RunWarning(
        "source_too_small",
        f"{first}{more}: left as one cluster, none of whose rows is hard.",
        "Lower the number of clusters, merge small sources, or cluster all rows together (clusterer without per).",
    )


_MANY_TIED = 0.02


def _one_cluster(split: Split) -> RunWarning | None:
    if split.hard.any():
        return None
    numbers = np.unique(split.cluster[split.valid])
    clusters, noise = int((numbers >= 0).sum()), float((split.cluster[split.valid] == -1).mean())
    difficulty = split.difficulty[split.valid]
    tied = float((difficulty == difficulty.max()).mean())
    if clusters == 1 and _MANY_TIED < tied < 1:
        return RunWarning(
            "one_cluster",
            f"No row is hard: {tied:.0%} of the rows share the highest difficulty, more than the clusterer takes.",
            "Take a larger share (clusterer={use: Quantile, q: NUMBER}), two groups (KMeans), or a finer score, "
            "such as RankAverage of this scorer and another.",
        )
    return RunWarning(
        "one_cluster",
        f"No row is hard: {clusters} cluster(s) and {noise:.0%} noise, and the easiest cluster is never hard.",
        "Use a clusterer that always finds two groups (KMeans), one that takes a share (Quantile), or train the "
        "proxy for more steps.",
    )


def _split_unstable(diagnostics: Diagnostics) -> RunWarning | None:
    value = (diagnostics.seed_agreement or {}).get("jaccard")
    if value is None or value >= MIN_SEED_JACCARD:
        return None
    return RunWarning(
        "split_unstable",
        f"The hard rows depend on the proxy's seed: two seeds share {value:.0%} of the rows that either calls hard.",
        "Train the proxy for more steps or take a larger one, and repeat; do not act on single rows.",
    )


def _not_diverged(diagnostics: Diagnostics) -> RunWarning | None:
    numbers = diagnostics.diverged
    if numbers is None or numbers["ok"]:
        return None
    names = {
        "fall": ("the mean loss fell by", MIN_FALL, "of its spread over rows"),
        "speed_spread": ("rows differ in how far they fall by", MIN_SPEED_SPREAD, "of the spread of the final loss"),
        "separation": ("hard and easy rows are apart by", MIN_SEPARATION, "of the noise within them"),
    }
    low = [
        f"{label} {'nothing measurable' if numbers[name] is None else f'{numbers[name]:.2f}'} {of} (want {limit:g})"
        for name, (label, limit, of) in names.items()
        if numbers[name] is None or numbers[name] < limit
    ]
    return RunWarning(
        "not_diverged",
        f"The loss trajectories have not diverged: {'; '.join(low)}.",
        "Train the proxy for more steps or at a higher learning rate (proxy.steps, proxy.learning_rate).",
    )


def _not_settled(steps: int, changing: str) -> RunWarning:
    return RunWarning(
        "not_settled",
        f"The split had not settled when the proxy reached the end of its schedule ({steps:,} steps): {changing}.",
        "Lengthen proxy.horizon, or look at the points of proxy.stop in run.json and choose proxy.steps yourself.",
    )


def _hard_is_one_source(diagnostics: Diagnostics, split: Split) -> RunWarning | None:
    by_source = diagnostics.hard_share_by_source or {}
    hard, rows = int(split.hard.sum()), int(split.valid.sum())
    if len(by_source) < 2 or hard == 0:
        return None
    name, top = max(by_source.items(), key=lambda item: item[1]["hard"])
    of_hard, of_rows = top["hard"] / hard, top["rows"] / rows
    if of_hard < MAX_SOURCE_SHARE or of_hard < MIN_SOURCE_LIFT * of_rows:
        return None
    return RunWarning(
        "hard_is_one_source",
        f"{of_hard:.0%} of the hard rows come from source {name!r}, which holds {of_rows:.0%} of all rows.",
        "Cluster within each source (clusterer: per: source).",
    )


def _hard_is_length(diagnostics: Diagnostics) -> RunWarning | None:
    margin = diagnostics.length_difference_correlation
    if margin is not None and abs(margin) >= MAX_LENGTH_CORRELATION:
        comparison = "longer" if margin > 0 else "shorter"
        return RunWarning(
            "hard_is_length_difference",
            f"Difficulty is largely a difference of lengths: pairs whose chosen answer is {comparison} count as hard "
            f"(Spearman correlation {margin:+.2f}).",
            "Train the proxy for more steps, or compare against a split by length before acting on this one.",
        )
    value = diagnostics.length_correlation
    if value is None or abs(value) < MAX_LENGTH_CORRELATION:
        return None
    comparison = "long" if value > 0 else "short"
    return RunWarning(
        "hard_is_length",
        f"Difficulty is largely length: {comparison} completions count as hard (Spearman correlation {value:+.2f}).",
        "Train the proxy for more steps, or compare against a split by length before acting on this one.",
    )


def _hard_too_large(diagnostics: Diagnostics, split: Split, counts: npt.NDArray[Any] | None) -> RunWarning | None:
    if counts is None or not (counts[split.hard] > 1).any():
        return None
    of_hard = counts[split.hard & (counts > 0)].astype(np.int64)  # (hard rows with tokens,)
    after = float(of_hard.sum() / counts.sum(dtype=np.int64))
    if after <= MAX_HARD_AFTER:
        return None
    copies = np.unique(of_hard) - 1  # (distinct numbers,)
    if len(copies) > 1:
        extra = f"{int((of_hard - 1).sum()):,} extra copies in all"
    else:
        extra = f"{copies[0]:,} extra cop{'y' if copies[0] == 1 else 'ies'} each"
    return RunWarning(
        "hard_too_large",
        f"{diagnostics.hard_share:.0%} of the rows are hard; with {extra} they fill {after:.0%} of every batch.",
        "Take the highest fifth instead (--set 'clusterer={use: Quantile, q: 0.2}'), more clusters with hard: highest, "
        "fewer copies, or a cap on the extra rows.",
    )


def _likely_noise(diagnostics: Diagnostics, split: Split) -> RunWarning | None:
    if split.reducible is not None and split.reducible.interval is not None:
        return wrong_rows(split.reducible)  # measured, which says more than the loss can
    value = (diagnostics.noise or {}).get("share_of_hard")
    if value is None or value < MAX_NOISE_AMONG_HARD:
        return None
    return RunWarning(
        "likely_noise",
        f"{value:.0%} of the hard rows have a loss that stays high and hardly falls. Wrong answers look like this, and "
        "so do right ones of rare skills that the proxy has not reached yet: the number cannot tell which they are.",
        "Read some of them (report.html lists a few, noise_suspect in tables/split.parquet marks all): those with "
        "right answers are what is to be shown more often; more steps of the proxy leave fewer of them marked. only: "
        "reducible measures whether they can be learned from the other rows.",
    )
