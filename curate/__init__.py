"""Decide what a language model is fine-tuned on.

Find the examples of a dataset that a small proxy learns late, show them more often, and hand back a dataset.
Names are loaded when they are first used, so that `import curate` stays fast and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from curate.comparison import Comparison, compare
    from curate.component import Component, fingerprint
    from curate.console.progress import Progress
    from curate.curated import Curated
    from curate.data.examples import Examples
    from curate.data.readers import read
    from curate.difficulty.scores import Scores, Split
    from curate.difficulty.split import make_split
    from curate.errors import CurateError, DataWarning, ExternalError, InputError
    from curate.evaluation import Evaluation, EvaluationSet, evaluate, read_evaluations
    from curate.expo import extrapolate
    from curate.finetuning import Finetuning, LoRA, finetune, read_run
    from curate.mixture.mixture import rebuild
    from curate.mixture.plan import Plan, fold, identity, realize
    from curate.pipeline import Pipeline, curate_dataset
    from curate.proxy.proxy import Proxy
    from curate.run import Run
    from curate.storage.cache import Cache
    from curate.validation import Validation, validate
    from curate.weighted_dataset import Weighed, weigh

_HOMES = {
    "Cache": "cache",
    "Comparison": "comparison",
    "Component": "component",
    "CurateError": "errors",
    "Curated": "curated",
    "DataWarning": "errors",
    "Evaluation": "evaluation",
    "EvaluationSet": "evaluation",
    "Examples": "examples",
    "ExternalError": "errors",
    "Finetuning": "finetuning",
    "InputError": "errors",
    "LoRA": "finetuning",
    "Pipeline": "pipeline",
    "Plan": "plan",
    "Progress": "progress",
    "Proxy": "proxy",
    "Run": "run",
    "Scores": "scores",
    "Split": "scores",
    "Validation": "validation",
    "Weighed": "weighted_dataset",
    "compare": "comparison",
    "curate_dataset": "pipeline",
    "evaluate": "evaluation",
    "extrapolate": "expo",
    "fingerprint": "component",
    "finetune": "finetuning",
    "fold": "plan",
    "identity": "plan",
    "make_split": "split",
    "read": "readers",
    "read_evaluations": "evaluation",
    "read_run": "finetuning",
    "realize": "plan",
    "rebuild": "mixture",
    "validate": "validation",
    "weigh": "weighted_dataset",
}

__all__ = [
    "Cache",
    "Comparison",
    "Component",
    "CurateError",
    "Curated",
    "DataWarning",
    "Evaluation",
    "EvaluationSet",
    "Examples",
    "ExternalError",
    "Finetuning",
    "InputError",
    "LoRA",
    "Pipeline",
    "Plan",
    "Progress",
    "Proxy",
    "Run",
    "Scores",
    "Split",
    "Validation",
    "Weighed",
    "compare",
    "curate_dataset",
    "evaluate",
    "extrapolate",
    "finetune",
    "fingerprint",
    "fold",
    "identity",
    "make_split",
    "read",
    "read_evaluations",
    "read_run",
    "realize",
    "rebuild",
    "validate",
    "weigh",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("curate.storage.versions").own_version()
    if name in _HOMES:
        return getattr(import_module(f"curate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'curate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
