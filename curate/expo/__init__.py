"""Model extrapolation (ExPO, arXiv 2404.16792): further along the way from a base model to the model tuned from it."""

from curate.expo.extrapolation import extrapolate
from curate.expo.sweep import sweep

__all__ = ["extrapolate", "sweep"]
