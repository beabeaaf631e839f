"""Compare fine-tuned runs: paired differences with confidence intervals, tables and a report."""

from curate.comparison.compare import Comparison, compare
from curate.comparison.statistics import DetectableEffect, PairedInterval, detectable_effect, holm, paired_interval

__all__ = [
    "Comparison",
    "DetectableEffect",
    "PairedInterval",
    "compare",
    "detectable_effect",
    "holm",
    "paired_interval",
]
