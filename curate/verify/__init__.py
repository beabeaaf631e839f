"""Extraction, comparison and grading of final answers of math problems; anything that cannot be parsed is undecided."""

import warnings
from typing import Any

from curate.verify.extraction import ExtractedAnswer, extract, reference_answer
from curate.verify.grading import grade, grade_many, same_answer
from curate.verify.sandbox import run_program
from curate.verify.sandbox_limits import ProgramLimits, ProgramResult
from curate.verify.verdict import Verdict

__all__ = [
    "ExtractedAnswer",
    "ProgramLimits",
    "ProgramResult",
    "Verdict",
    "extract",
    "grade",
    "grade_many",
    "reference_answer",
    "run_program",
    "same_answer",
]


def __getattr__(name: str) -> Any:
    if name == "Found":  # the name in earlier releases
        warnings.warn("curate.verify.Found is called ExtractedAnswer now; rename it", FutureWarning, stacklevel=2)
        return ExtractedAnswer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
