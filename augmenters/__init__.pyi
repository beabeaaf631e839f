from .duplicate import Duplicate as Duplicate
from .replay import Replay as Replay
from .subset import Subset as Subset
from .synthesize import Synthesize as Synthesize
