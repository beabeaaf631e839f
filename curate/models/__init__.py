"""Loading a causal language model, and every forward pass through one."""

import lazy_loader

# Loaded when first used, since these modules import torch; the names are in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
