"""Validate a recipe: fine-tune, evaluate and compare arms of the data with one call."""

from curate.validation.config import ARMS, Addition, Validation
from curate.validation.validate import validate

__all__ = ["ARMS", "Addition", "Validation", "validate"]
