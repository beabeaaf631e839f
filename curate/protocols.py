"""Structural protocols of plug-ins: any object with these methods fits, without a base class or registration."""

from curate.clusterers.per_source import Clusterer
from curate.evaluation.grading import Grader
from curate.generators.requests import Generator
from curate.mixture.plan import Augmenter
from curate.proxy.measures import Measure
from curate.run import Scorer
from curate.training.reweighting import Reweighter

# Each is defined next to the code that calls it, and its docstring lists optional methods. `curate.checks` has contract
# tests for each; run them on your own classes.

__all__ = [
    "Augmenter",
    "Clusterer",
    "Generator",
    "Grader",
    "Measure",
    "Reweighter",
    "Scorer",
]
