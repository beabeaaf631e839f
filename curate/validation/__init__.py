"""One command from a dataset to an answer: does the curated data make a better model than the data as it is?"""

from curate.validation.runner import validate
from curate.validation.settings import ARMS, Addition, Validation

__all__ = ["ARMS", "Addition", "Validation", "validate"]
