"""Forward passes over a batch of prompts, one new token per row after the first."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.errors import InputError

if TYPE_CHECKING:
    import torch


__all__ = ["Steps"]


class Steps:
    """Rows padded on the left, with the keys and values of all their tokens but the newest."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        import torch

        self.model = model
        device = model.get_input_embeddings().weight.device
        longest = max(map(len, prompts), default=0)
        self.mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        self.ids = torch.tensor([[ids[0]] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        self.cache: Any = None
        known = inspect.signature(model.forward).parameters
        if "past_key_values" not in known:
            raise _cannot_sample(model)
        self.takes_positions = "position_ids" in known
        # Of the prompt, only what its last token predicts is wanted.
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

    @property
    def joinable(self) -> bool:
        """Whether others may join: every layer keeps every token, and positions are ours to say."""
        from transformers.cache_utils import DynamicLayer

        layers = getattr(self.cache, "layers", [])
        return self.takes_positions and bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def logits(self) -> torch.Tensor:
        """(b, V) float32 of the next token of each row."""
        options: dict[str, Any] = dict(self.options)
        if self.takes_positions:
            positions = (self.mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -self.ids.shape[1] :]
        out = self.model(
            input_ids=self.ids, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **options
        )
        self.cache = out.past_key_values
        if self.cache is None:
            raise _cannot_sample(self.model)
        logits: torch.Tensor = out.logits[:, -1].float()
        if logits.isnan().any():
            raise InputError("the model's logits are not numbers; check its weights, or set precision: float32")
        return logits

    def append(self, tokens: torch.Tensor, going: Sequence[int]) -> None:
        """The next token (b',) of the rows that go on, which are those at the positions `going`."""
        import torch

        index = torch.tensor(going, dtype=torch.int64, device=self.mask.device)
        if len(going) < len(self.mask) and going:
            self.cache.reorder_cache(index)
            self.mask = self.mask[index]
            if self.joinable:
                self._trim()
        self.ids = tokens.to(self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    def join(self, others: Steps) -> None:
        """Rows of the same model, behind the own ones; both have their newest token appended."""
        import torch

        missing = others.mask.shape[1] - self.mask.shape[1]
        mine, theirs = max(missing, 0), max(-missing, 0)
        for layer, other in zip(self.cache.layers, others.cache.layers, strict=True):
            layer.keys = torch.cat([_padded(layer.keys, mine), _padded(other.keys, theirs)])
            layer.values = torch.cat([_padded(layer.values, mine), _padded(other.values, theirs)])
        pad = torch.nn.functional.pad
        self.mask = torch.cat([pad(self.mask, (mine, 0)), pad(others.mask, (theirs, 0))])
        self.ids = torch.cat([self.ids, others.ids])

    def _trim(self) -> None:
        """Forget columns at the front that only rows had which are gone."""
        empty = int(self.mask.any(dim=0).int().argmax())
        if empty:
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[..., empty:, :], layer.values[..., empty:, :]


def _cannot_sample(model: Any) -> InputError:
    return InputError(
        f"no text can be drawn from a {type(model).__name__}: it does not keep the keys and values of earlier tokens; "
        "choose a causal language model (a decoder, such as a Llama or a Qwen)"
    )


def _padded(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    """(b, h, t, d) with so many more columns of zeros before the first."""
    import torch

    return torch.nn.functional.pad(tensor, (0, 0, columns, 0)) if columns else tensor
