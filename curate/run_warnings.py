"""Warnings about a split, in plain words with the number and what to do.

The thresholds mark where a number is worth a look, not where it is proven wrong: a warning changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.scores import Split

if TYPE_CHECKING:
    from curate.diagnostics import Diagnostics

__all__ = ["MIN_FALL", "MIN_SEPARATION", "MIN_SPEED_SPREAD", "RunWarning", "run_warnings"]

# Below this overlap of the hard sets, more than a third of what one proxy seed calls hard another does not.
MIN_SEED_JACCARD = 0.5
# The mean loss must fall by this share of its spread over rows; less is what the warm-up alone moves.
MIN_FALL = 0.1
# Rows must differ in how far they fall by this share of the spread; else the last checkpoint ranks them like
# the first, and the split shows what the proxy knew before.
MIN_SPEED_SPREAD = 0.1
# Distance of the hard from the easy centroid over the typical distance of a row from its own: k-means that
# cuts structureless noise in two gets 0.7 at six checkpoints, a gap between two kinds of rows 2 and more.
MIN_SEPARATION = 1.0
# One source holds this share of the hard rows ...
MAX_SOURCE_SHARE = 0.8
# ... and at least this many times its share of all rows: the split says which source, not which rows.
MIN_SOURCE_LIFT = 1.5
# From here on, length explains more than a third of the order of difficulty (0.6 squared).
MAX_LENGTH_CORRELATION = 0.6
# Above this share of the rebuilt mixture, most of every batch is hard and easy rows become the exception.
MAX_HARD_AFTER = 0.5
# Repeating unlearnable rows does harm; one in ten of the hard rows is where it stops being a rounding error.
MAX_NOISE_AMONG_HARD = 0.1


@dataclass(frozen=True)
class RunWarning:
    """code: stable name; message: what was found, with the number; remedy: what to do about it."""

    code: str
    message: str
    remedy: str


def run_warnings(found: Diagnostics, split: Split, duplicates_per_hard: int) -> tuple[RunWarning, ...]:
    """The warnings that the numbers `found` about `split` deserve."""
    every = (
        _one_cluster(split),
        _split_unstable(found),
        _not_diverged(found),
        _hard_is_one_source(found, split),
        _hard_is_length(found),
        _hard_too_large(found, duplicates_per_hard),
        _likely_noise(found),
    )
    return tuple(warning for warning in every if warning)


def _one_cluster(split: Split) -> RunWarning | None:
    if split.hard.any():
        return None
    numbers = np.unique(split.cluster[split.valid])
    clusters, noise = int((numbers >= 0).sum()), float((split.cluster[split.valid] == -1).mean())
    return RunWarning(
        "one_cluster",
        f"No row is hard: {clusters} cluster(s) and {noise:.0%} noise, and the easiest cluster is never hard.",
        "Use a clusterer that always finds two groups (KMeans), one that takes a share (Quantile), or train the "
        "proxy for more steps.",
    )


def _split_unstable(found: Diagnostics) -> RunWarning | None:
    value = (found.seed_agreement or {}).get("jaccard")
    if value is None or value >= MIN_SEED_JACCARD:
        return None
    return RunWarning(
        "split_unstable",
        f"The hard rows depend on the proxy's seed: two seeds share {value:.0%} of the rows that either calls hard.",
        "Train the proxy for more steps or take a larger one, and repeat; do not act on single rows.",
    )


def _not_diverged(found: Diagnostics) -> RunWarning | None:
    numbers = found.diverged
    if numbers is None or numbers["ok"]:
        return None
    names = {
        "fall": ("the mean loss fell by", MIN_FALL, "of its spread over rows"),
        "speed_spread": ("rows differ in how far they fall by", MIN_SPEED_SPREAD, "of the spread of the final loss"),
        "separation": ("hard and easy rows are apart by", MIN_SEPARATION, "of the noise within them"),
    }
    low = [
        f"{says} {'nothing measurable' if numbers[name] is None else f'{numbers[name]:.2f}'} {of} (want {limit:g})"
        for name, (says, limit, of) in names.items()
        if numbers[name] is None or numbers[name] < limit
    ]
    return RunWarning(
        "not_diverged",
        f"The loss trajectories have not diverged: {'; '.join(low)}.",
        "Train the proxy for more steps or at a higher learning rate (proxy.steps, proxy.learning_rate).",
    )


def _hard_is_one_source(found: Diagnostics, split: Split) -> RunWarning | None:
    by_source = found.hard_share_by_source or {}
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


def _hard_is_length(found: Diagnostics) -> RunWarning | None:
    value = found.length_correlation
    if value is None or abs(value) < MAX_LENGTH_CORRELATION:
        return None
    which = "long" if value > 0 else "short"
    return RunWarning(
        "hard_is_length",
        f"Difficulty is largely length: {which} completions count as hard (Spearman correlation {value:+.2f}).",
        "Train the proxy for more steps, or compare against a split by length before acting on this one.",
    )


def _hard_too_large(found: Diagnostics, duplicates_per_hard: int) -> RunWarning | None:
    hard = found.hard_share
    after = hard * (1 + duplicates_per_hard) / (1 + hard * duplicates_per_hard)
    if after <= MAX_HARD_AFTER:
        return None
    return RunWarning(
        "hard_too_large",
        f"{hard:.0%} of the rows are hard; with {duplicates_per_hard} extra copies each they fill {after:.0%} of "
        "every batch.",
        "Use more clusters with hard: highest, a Quantile clusterer, fewer copies, or a cap on the extra rows.",
    )


def _likely_noise(found: Diagnostics) -> RunWarning | None:
    value = (found.noise or {}).get("share_of_hard")
    if value is None or value < MAX_NOISE_AMONG_HARD:
        return None
    return RunWarning(
        "likely_noise",
        f"{value:.0%} of the hard rows look like wrong or unlearnable answers: their loss stays high and never falls.",
        "Read the rows where noise_suspect is true in tables/split.parquet, and repair or drop them before copying.",
    )
