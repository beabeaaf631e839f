"""One command from a dataset to an answer: does the curated data make a better model than the data as it is?"""

from curate.validation.config import ARMS, Addition, Validation
from curate.validation.validate import validate

__all__ = ["ARMS", "Addition", "Validation", "validate"]
