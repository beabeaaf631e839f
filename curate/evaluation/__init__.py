"""Evaluation of models: final answers graded and reference completions scored, row by row.

`evaluate` evaluates a fine-tuned run, a model or a generator; `read_evaluations` reads the results in a folder.
"""

from curate.evaluation.config import Evaluation, EvaluationSet, parse_set
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import EvaluationResult, read_evaluations

__all__ = ["Evaluation", "EvaluationResult", "EvaluationSet", "evaluate", "parse_set", "read_evaluations"]
