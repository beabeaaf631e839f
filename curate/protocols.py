"""The plug points. Structural: an object with these methods fits, without a base class or registration.

Each stands beside the code that calls it; here they are on one page. `curate.checks` holds the contract tests for each;
run them on a class of your own.
"""

from curate.clusterers.per_source import Clusterer
from curate.generators.requests import Generator
from curate.mixture.plan import Augmenter, Preflight, Priced, Readiness, Realizer
from curate.proxy.measures import Measure
from curate.run import MeasuringScorer, Scorer
from curate.training.reweighting import Reweighter

__all__ = [
    "Augmenter",
    "Clusterer",
    "Generator",
    "Measure",
    "MeasuringScorer",
    "Preflight",
    "Priced",
    "Readiness",
    "Realizer",
    "Reweighter",
    "Scorer",
]
