from .adamw import AdamW as AdamW
from .functional_sam import FunctionalSAM as FunctionalSAM
from .muon import Muon as Muon
from .protocols import Optimizer as Optimizer
from .sam import SAM as SAM
