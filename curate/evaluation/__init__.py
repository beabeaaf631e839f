"""What a model can do: final answers graded and answers scored on evaluation sets, row by row.

`evaluate` asks a fine-tuned run, a model or a generator; `read_evaluations` reads what it left in a folder.
"""

from curate.evaluation.config import Evaluation, EvaluationSet, parse_set
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import EvaluationResult, read_evaluations

__all__ = ["Evaluation", "EvaluationResult", "EvaluationSet", "evaluate", "parse_set", "read_evaluations"]
