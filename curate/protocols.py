"""The plug points. Structural: an object with these methods fits, without a base class or registration.

Each stands beside the code that calls it; here they are on one page. `curate.checks` holds the contract tests for each;
run them on a class of your own.
"""

from curate.clusterers import Clusterer
from curate.generation import Generator
from curate.measures import CostedMeasure, DemandingMeasure, KeyedMeasure, Measure
from curate.plan import Augmenter, Preflight, Priced, Readiness, Realizer
from curate.reweighting import (
    BeginningReweighter,
    EmbeddingReweighter,
    RefreshedReweighter,
    RememberingReweighter,
    Reweighter,
    RowReweighter,
)
from curate.run import MeasuringScorer, Scorer, Tokenizing

__all__ = [
    "Augmenter",
    "BeginningReweighter",
    "Clusterer",
    "CostedMeasure",
    "DemandingMeasure",
    "EmbeddingReweighter",
    "Generator",
    "KeyedMeasure",
    "Measure",
    "MeasuringScorer",
    "Preflight",
    "Priced",
    "Readiness",
    "Realizer",
    "RefreshedReweighter",
    "RememberingReweighter",
    "Reweighter",
    "RowReweighter",
    "Scorer",
    "Tokenizing",
]
