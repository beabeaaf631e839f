"""The proxy as it was at one step of its training, lent to measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from curate import models
from curate.proxy.training import ProxyRun
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray

__all__ = ["LiveCheckpoint"]


@dataclass
class LiveCheckpoint:
    """The proxy as it was after `step` optimizer steps, lent to a measure.

    model: float32 weights, eval mode, on `device`. A measure that changes them must put them back bit for bit.
    tokens: of the shard being measured. proxy_run: the training it is from, with the tokenizer and the schedule.
    expected_tokens: tokens that all passes over all rows to be measured come to, whatever a cache may hold of them.
    memo: kept across the shards of one checkpoint, for what a measure computes once.
    kept: kept across checkpoints too, for what does not depend on the proxy's weights.
    """

    model: Any
    step: int
    tokens: Tokens
    device: Any
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    expected_tokens: int
    memo: dict[str, Any] = field(default_factory=dict, repr=False)
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    proxy_run: ProxyRun = field(kw_only=True, repr=False)
    _engines: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def all_tokens(self) -> Tokens:
        """Of the whole dataset that the proxy was trained on, also where the shard is of other rows."""
        return self.proxy_run.tokenised.tokens

    def losses(
        self, tokens: Tokens | None = None, *, precision: Literal["auto", "float32", "bfloat16"] | None = None
    ) -> FloatArray:
        """(n,) loss in nats per token of the shard (or of `tokens`) under the weights the model holds now.

        precision: "float32" for a measure that looks at small changes of the weights, which bfloat16 rounds away.
        """
        name = precision or self.precision
        if name not in self._engines:
            # What all passes will cost decides whether compiling pays; what a cache holds of it must not.
            self._engines[name] = models.LossEngine(
                self.model, precision=name, expected_tokens=self.expected_tokens, device=self.device
            )
        else:
            self._engines[name].refresh()
        result: FloatArray = self._engines[name].losses(self.tokens if tokens is None else tokens)
        return result
