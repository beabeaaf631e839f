"""Scorers: difficulty signals, most of which measure how late in training an example is learned."""

import lazy_loader

# Loaded when first used; the names are in __init__.pyi, a line each.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
