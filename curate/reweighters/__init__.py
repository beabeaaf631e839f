"""Online reweighting: weights for the examples of each optimizer batch, computed while the model trains."""

import lazy_loader

# Loaded on first use; __init__.pyi lists the names, one per line.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
