"""Decide what a language model is fine-tuned on."""

import warnings
from importlib import import_module
from typing import Any

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi

_RENAMED = {"weigh": "add_weights", "Weighed": "WeightedDataset"}  # names of earlier releases


# Names are loaded when they are first used, so that `import curate` stays fast and needs no torch.
def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("curate.storage.records").own_version()
    if name in _RENAMED:
        warnings.warn(f"curate.{name} is called curate.{_RENAMED[name]} now; rename it", FutureWarning, stacklevel=2)
    return _attribute(_RENAMED.get(name, name))
