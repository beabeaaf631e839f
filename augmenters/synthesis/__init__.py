"""New problems from old solutions: variational synthesis (SvS, arXiv 2508.14029), offline.

A model sees the solution of a hard row and writes a problem that this solution would answer; since the solution
fixes the answer, the new problem inherits it. The same model then solves the new problem several times, and it is
kept where some of the answers agree with the original one, but not most: neither broken nor easy.
"""

from __future__ import annotations

from augmenters.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT
from augmenters.synthesis.request_queue import Work, Workload
from augmenters.synthesis.variants import Family, Parent, Variant
from curate.verify.pass_rate import Band

__all__ = [
    "DEFAULT_SOLUTION_PROMPT",
    "DEFAULT_VARIATION_PROMPT",
    "Band",
    "Family",
    "Parent",
    "Variant",
    "Work",
    "Workload",
]
