"""Decide what a language model is fine-tuned on.

Find the examples of a dataset that a small proxy learns late, show them more often, and hand back a dataset.
Names are loaded when they are first used, so that `import curate` stays fast and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.cache import Cache
    from curate.component import Component, fingerprint
    from curate.curated import Curated
    from curate.errors import CurateError, DataWarning, ExternalError, InputError
    from curate.examples import Examples
    from curate.mixture import rebuild
    from curate.pipeline import Pipeline, curate_dataset
    from curate.plan import Plan, fold, identity, realize
    from curate.progress import Progress
    from curate.proxy import Proxy
    from curate.readers import read
    from curate.run import Run
    from curate.scores import Scores, Split
    from curate.split import make_split

_HOMES = {
    "Cache": "cache",
    "Component": "component",
    "CurateError": "errors",
    "Curated": "curated",
    "DataWarning": "errors",
    "Examples": "examples",
    "ExternalError": "errors",
    "InputError": "errors",
    "Pipeline": "pipeline",
    "Plan": "plan",
    "Progress": "progress",
    "Proxy": "proxy",
    "Run": "run",
    "Scores": "scores",
    "Split": "scores",
    "curate_dataset": "pipeline",
    "fingerprint": "component",
    "fold": "plan",
    "identity": "plan",
    "make_split": "split",
    "read": "readers",
    "realize": "plan",
    "rebuild": "mixture",
}

__all__ = [
    "Cache",
    "Component",
    "CurateError",
    "Curated",
    "DataWarning",
    "Examples",
    "ExternalError",
    "InputError",
    "Pipeline",
    "Plan",
    "Progress",
    "Proxy",
    "Run",
    "Scores",
    "Split",
    "curate_dataset",
    "fingerprint",
    "fold",
    "identity",
    "make_split",
    "read",
    "realize",
    "rebuild",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"curate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'curate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
