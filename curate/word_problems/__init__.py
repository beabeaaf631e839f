"""Seeded math word problems of known difficulty for demos, tests and benchmarks, without downloads."""

from curate.word_problems.table import FAMILIES, LEVELS, MIXTURE, SPLITS, generate

# Real data has no difficulty column. Here `level` (1 to 4) is known by construction: harder
# problems have more steps, longer numbers, several operations in one equation, units to convert, and facts that
# turn out to be irrelevant. Length does not reveal the level, as it would in a naive generator: easy answers are
# often wordy, hard ones often terse.

__all__ = ["FAMILIES", "LEVELS", "MIXTURE", "SPLITS", "generate"]
