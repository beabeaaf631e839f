"""An untrained model in place of the proxy: one checkpoint, after no step."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from curate.component import fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.proxy.proxy import Proxy, Schedule
from curate.proxy.training import ProxyTraining, Trainer


class Untrained(ProxyTraining):
    """The model of `proxy`, left untrained; `examples` are the rows it measures."""

    def __init__(self, examples: Examples, proxy: Proxy, context: Context) -> None:
        super().__init__(examples, proxy, context)
        self.key = fingerprint(["untrained", self.key])

    @cached_property
    def schedule(self) -> Schedule:
        """One checkpoint, at step 0. Raises InputError if no row can be measured."""
        return Schedule(np.zeros(1, np.int64), 1, super().schedule.steps_per_epoch)

    def checkpoints(self, schedule: Schedule) -> list[int]:
        """See `ProxyTraining.checkpoints`: there is nothing to store."""
        return schedule.steps.tolist()

    def train(self, trainer: Trainer | None = None) -> None:
        """Does nothing."""

    def load_weights(self, model: Any, step: int) -> None:
        """Does nothing: the model has the weights it was loaded with."""
