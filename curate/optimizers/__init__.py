"""Optimizers: frozen components that build the torch optimizer when training starts.

The training loop always steps with a closure (see `Optimizer`). An optimizer that needs a second gradient, or a
gradient of another kind, calls the closure for it, and the loop has no branch for it.
"""

import lazy_loader

# Loaded on first use; __init__.pyi lists the names, one per line.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
