"""Model extrapolation (ExPO, arXiv 2404.16792): beyond a tuned model, along the change from its base."""

from curate.expo.extrapolation import extrapolate
from curate.expo.sweep import sweep

__all__ = ["extrapolate", "sweep"]
