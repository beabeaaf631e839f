"""Checkpoints of tiny models without a proxy run, and runs whose measurements are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from curate.checkpoints import LiveCheckpoint
from curate.component import fingerprint
from curate.proxy import Proxy, Schedule
from curate.tokens import Tokens
from curate.trace import Trace

__all__ = ["checkpoint_of", "given_run", "row_gradient", "row_logits", "row_loss"]


def checkpoint_of(model: Any, tokens: Tokens, **run: Any) -> LiveCheckpoint:
    """The model lent as after step 2 of 30, over a schedule of 40; run: attributes of its proxy run."""
    schedule = Schedule(np.array([2, 30]), 40, 10.0)
    beside = SimpleNamespace(**{"schedule": schedule, "proxy": Proxy(model="scratch"), "max_length": 512, **run})
    cpu = torch.device("cpu")
    return LiveCheckpoint(model, 2, tokens, cpu, 7, "float32", 0, proxy_run=beside)


def row_logits(model: Any, tokens: Tokens, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (m, v) at the supervised positions of one row, by the model's own forward pass, and their targets (m,)."""
    low, high = tokens.offsets[row : row + 2]
    ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))
    where = torch.from_numpy(tokens.supervised[low:high])[1:]
    return model(input_ids=ids[None]).logits[0, :-1][where].float(), ids[1:][where]


def row_loss(model: Any, tokens: Tokens, row: int) -> torch.Tensor:
    """Mean loss of one row in nats per token."""
    return torch.nn.functional.cross_entropy(*row_logits(model, tokens, row))


def row_gradient(model: Any, tokens: Tokens, row: int) -> dict[str, torch.Tensor]:
    """Gradient of one row's mean loss by every parameter, by its name."""
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(row_loss(model, tokens, row), list(named.values()), materialize_grads=True)
    return dict(zip(named, gradients, strict=True))


def given_run(*values: tuple[Any, Any], valid: Any = None) -> Any:
    """What `score` needs of a run, whose measures have the values (n, K, d) they are paired with."""
    n, k = np.shape(values[0][1])[:2]
    found = Trace(
        schedule=Schedule(np.arange(1, k + 1) * 10, 100 * k, 10.0),
        values={fingerprint(measure): np.asarray(value, np.float32) for measure, value in values},
        valid=np.ones(n, np.bool_) if valid is None else np.asarray(valid),
        tokens=np.full(n, 4, np.int32),
        prompt_cut=np.zeros(n, np.int32),
        completion_cut=np.zeros(n, np.int32),
        proxy_key="",
        facts={},
    )
    return SimpleNamespace(trace=lambda examples, measures: found, proxy=Proxy(model="scratch"))
