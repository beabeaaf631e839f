from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import load_weights as load_weights
from .config import StepRecord as StepRecord
from .loop import train as train
