"""Engines: where the work of a run is done; without one, it is done in this process."""

from curate.engine.ray import Ray

__all__ = ["Ray"]
