"""Optimizers as parameters: frozen components that build the torch object when training starts.

THE training loop always steps with a closure (see `Closure`). An optimizer that needs a second gradient, or a
gradient of another kind, asks the closure for it, and the loop has no branch for it.
"""

from curate.optimizers.adamw import AdamW
from curate.optimizers.functional_sam import FunctionalSAM, FunctionalSharpnessAwareOptimizer
from curate.optimizers.muon import Muon, MuonWithAdamW
from curate.optimizers.protocols import Closure, DescentOptimizer, Optimizer, SteppedOptimizer, trainable
from curate.optimizers.sam import SAM, SharpnessAwareOptimizer, ascent

__all__ = [
    "SAM",
    "AdamW",
    "Closure",
    "DescentOptimizer",
    "FunctionalSAM",
    "FunctionalSharpnessAwareOptimizer",
    "Muon",
    "MuonWithAdamW",
    "Optimizer",
    "SharpnessAwareOptimizer",
    "SteppedOptimizer",
    "ascent",
    "trainable",
]
