"""The training loop, shared by proxies, fine-tuning and reweighting."""

import lazy_loader

# Loaded on first use, since these modules import torch; __init__.pyi lists the names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
