"""Protocols of plug-ins. Structural: an object with these methods fits, without a base class or registration.

Each is defined beside the code that calls it, and its docstring names its optional methods. `curate.checks` holds the
contract tests for each; run them on a class of your own.
"""

from curate.clusterers.per_source import Clusterer
from curate.evaluation.grading import Grader
from curate.generators.requests import Generator
from curate.mixture.plan import Augmenter
from curate.proxy.measures import Measure
from curate.run import Scorer
from curate.training.reweighting import Reweighter

__all__ = [
    "Augmenter",
    "Clusterer",
    "Generator",
    "Grader",
    "Measure",
    "Reweighter",
    "Scorer",
]
