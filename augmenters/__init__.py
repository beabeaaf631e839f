"""Ways to rebuild a mixture."""

from augmenters.duplicate import Duplicate
from augmenters.replay import Replay
from augmenters.subset import Subset
from augmenters.synthesize import Synthesize

__all__ = ["Duplicate", "Replay", "Subset", "Synthesize"]
