"""Batched sampling from a model in this process, where completions do not depend on the rest of their batch."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import InputError
from curate.generators.chat import Mode, Template, encode_prompt, tokenizer_mode
from curate.generators.payloads import encodable
from curate.generators.request_queue import RequestQueue
from curate.generators.requests import Completion, Queue, Request
from curate.models.loading import context_of
from curate.seeds import derive_seed
from curate.tokenization.dialect import Dialect

if TYPE_CHECKING:
    import torch


_PREFIX = 6  # last tokens of the prompt, which can change how the first token of a completion is written


def sample(
    model: Any, tokenizer: Any, requests: Sequence[Request], *, template: Template = "auto", batch_size: int = 16
) -> list[Completion]:
    """Completions of `requests`, in their order, sampled from a loaded transformers model on its device.

    See `decode` for the state of the model; template: see `curate.generators.Transformers`.
    """
    queue = RequestQueue[int]()
    for place, request in enumerate(requests):
        queue.add(request, place)
    decode(model, tokenizer, queue, tokenizer_mode(tokenizer, template), batch_size)
    return [queue.completions[place] for place in range(len(requests))]


def decode(
    model: Any, tokenizer: Any, queue: Queue, mode: Mode, batch_size: int, first: Sequence[Request] = ()
) -> None:
    """Serve `queue`, up to `batch_size` requests at a time; each completion is handed back as soon as it is finished.

    The numbers of a row depend on its batch only by the rounding of matrix products. A finished row leaves
    the batch, and once a quarter of the rows is free other requests join, if the model's cache allows that. Meanwhile
    the model is in evaluation mode; afterwards every module is in its own mode again. No gradient is kept and no
    global random state used, so a model may be sampled in the middle of its training.

    first: requests already taken from the queue, up to `batch_size`.
    """
    batch = _Batch(model, tokenizer, queue)
    enough = max(1, batch_size // 4)
    done_when_asked = -1
    with _evaluation_mode(model):
        while True:
            free = batch_size - len(batch.rows)
            if not batch.rows or (free >= enough and batch.done > done_when_asked and batch.steps.joinable):
                # Once the queue has nothing to give, it has nothing until another row is done.
                done_when_asked = batch.done
                requests, first = first or queue.take(free), ()
                batch.begin(requests, mode)
                if not batch.rows:
                    if not requests:
                        return
                    continue
            batch.step()


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode without gradients, and restore every module's own mode afterwards."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass
class _Row:
    """A request in progress. prompt: its token ids; most: maximum number of new tokens; ids: tokens drawn so far."""

    request: Request
    prompt: list[int]
    most: int
    randoms: random.Random
    ids: list[int] = field(default_factory=list)

    def completion(self, text: str, reason: Literal["stop", "length"]) -> Completion:
        cap = self.most if self.most < self.request.sampling.max_tokens else None
        return Completion(text, reason, len(self.prompt), len(self.ids), cap=cap)


class _Batch:
    """The rows in progress, advanced together by one forward pass per token. done: how many rows have finished."""

    def __init__(self, model: Any, tokenizer: Any, queue: Queue) -> None:
        self.model, self.tokenizer, self.queue = model, tokenizer, queue
        self.dialect = Dialect(tokenizer)
        self.ends, self.context = _ends(model, tokenizer), context_of(model.config)
        self.rows: list[_Row] = []
        self.steps = _Steps(model, [])
        self.done = 0

    def begin(self, requests: Sequence[Request], mode: Mode) -> None:
        """Process the prompts and draw the first token of each."""
        rows = [row for row in (self._admitted(request, mode) for request in requests) if row is not None]
        if not rows:
            return
        steps = _Steps(self.model, [row.prompt for row in rows])
        rows = self._advance(rows, steps)
        if self.rows and rows:
            self.steps.join(steps)
        elif rows:
            self.steps = steps
        self.rows += rows

    def step(self) -> None:
        """Draw one token for every row."""
        self.rows = self._advance(self.rows, self.steps)

    def _admitted(self, request: Request, mode: Mode) -> _Row | None:
        ids = encode_prompt(self.tokenizer, request.prompt, mode, request.tools, self.dialect)
        context = self.context
        if not ids or (context is not None and len(ids) >= context):
            refusal = (
                f"the prompt has {len(ids)} tokens, the model's context {context}" if ids else "the prompt is empty"
            )
            self._hand_back(request, Completion("", "refused", len(ids), refusal=refusal))
            return None
        most = request.sampling.max_tokens if context is None else min(request.sampling.max_tokens, context - len(ids))
        return _Row(request, ids, most, random.Random(derive_seed(request.seed, request.index)))

    def _advance(self, rows: list[_Row], steps: _Steps) -> list[_Row]:
        """Draw one token for each row; returns the rows that are not finished."""
        import torch

        sampling = [row.request.sampling for row in rows]
        tokens = draw(
            steps.logits(),
            torch.tensor([parameters.temperature for parameters in sampling], dtype=torch.float64),
            torch.tensor([parameters.top_k for parameters in sampling]),
            torch.tensor([parameters.top_p for parameters in sampling], dtype=torch.float64),
            torch.tensor([row.randoms.random() for row in rows], dtype=torch.float64),
        )
        unfinished = []
        for k, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            row.ids.append(token)
            completion = _ended(row, self.tokenizer, token in self.ends)
            if completion is None:
                unfinished.append(k)
            else:
                self._hand_back(row.request, completion)
        steps.append(tokens[unfinished], unfinished)
        return [rows[k] for k in unfinished]

    def _hand_back(self, request: Request, completion: Completion) -> None:
        self.queue.done(request, completion)
        self.done += 1


class _Steps:
    """Rows padded on the left, with keys and values of all their tokens except the newest.

    mask: (b, t) 1 for tokens and 0 for padding; ids: (b, t) before the first pass, then (b, 1); cache: per layer keys
    and values (b, heads, t, d).
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        import torch

        self.model = model
        device = model.get_input_embeddings().weight.device
        longest = max(map(len, prompts), default=0)  # t
        self.mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        self.ids = torch.tensor([[ids[0]] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        self.cache: Any = None
        parameters = inspect.signature(model.forward).parameters
        if "past_key_values" not in parameters:
            raise _cannot_sample(model)
        self.takes_positions = "position_ids" in parameters
        # Of the prompt, only the prediction after its last token is needed.
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    @property
    def joinable(self) -> bool:
        """Whether rows may join: every layer keeps all tokens, and the model takes position ids."""
        from transformers.cache_utils import DynamicLayer

        layers = getattr(self.cache, "layers", [])
        return self.takes_positions and bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def logits(self) -> torch.Tensor:
        """(b, V) float32 logits of the next token of each row."""
        options: dict[str, Any] = dict(self.options)
        if self.takes_positions:
            positions = (self.mask.cumsum(1) - 1).clamp(min=0)  # (b, t)
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

    def append(self, tokens: torch.Tensor, unfinished: Sequence[int]) -> None:
        """Append the next tokens (b',) of the rows at positions `unfinished`; the other rows are dropped."""
        import torch

        index = torch.tensor(unfinished, dtype=torch.int64, device=self.mask.device)
        if len(unfinished) < len(self.mask) and unfinished:
            self.cache.reorder_cache(index)
            self.mask = self.mask[index]
            if self.joinable:
                self._trim()
        self.ids = tokens.to(self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    def join(self, others: _Steps) -> None:
        """Append the rows of `others`, a batch of the same model; both must have appended their newest token."""
        import torch

        missing = others.mask.shape[1] - self.mask.shape[1]
        own_padding, other_padding = max(missing, 0), max(-missing, 0)  # columns of padding added to each side
        for layer, other_layer in zip(self.cache.layers, others.cache.layers, strict=True):
            layer.keys = torch.cat([_padded(layer.keys, own_padding), _padded(other_layer.keys, other_padding)])
            layer.values = torch.cat([_padded(layer.values, own_padding), _padded(other_layer.values, other_padding)])
        pad = torch.nn.functional.pad
        self.mask = torch.cat([pad(self.mask, (own_padding, 0)), pad(others.mask, (other_padding, 0))])
        self.ids = torch.cat([self.ids, others.ids])

    def _trim(self) -> None:
        """Drop leading columns that are padding in every row."""
        empty = int(self.mask.any(dim=0).int().argmax())
        if empty:
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[..., empty:, :], layer.values[..., empty:, :]


def _cannot_sample(model: Any) -> InputError:
    """The error for a model without a key-value cache."""
    return InputError(
        f"no text can be drawn from a {type(model).__name__}: it does not keep the keys and values of earlier tokens; "
        "choose a causal language model (a decoder, such as a Llama or a Qwen)"
    )


def _padded(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    """(b, heads, t, d) with `columns` columns of zeros prepended."""
    import torch

    return torch.nn.functional.pad(tensor, (0, 0, columns, 0)) if columns else tensor


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """(b,) int64 tokens drawn from logits (b, V), on the CPU; all other arguments (b,), with the meaning of `Sampling`.

    uniform: number in [0, 1) that decides each draw. The top_k most likely tokens are kept first, and of them the
    fewest that hold top_p of their total probability.
    """
    import torch

    tokens = logits.argmax(dim=1).cpu()  # (b,), on the device: the logits of a batch are tens of megabytes
    if not (temperature > 0).any():
        return tokens
    logits = logits.cpu()
    filtered = (top_k > 0) | (top_p < 1)
    for rows in (torch.nonzero((temperature > 0) & ~filtered)[:, 0], torch.nonzero((temperature > 0) & filtered)[:, 0]):
        if len(rows) == 0:
            continue
        # Subtract the largest first, so that a temperature near zero does not overflow. From here on (rows, V).
        shifted = logits[rows].double() - logits[rows].double().amax(dim=1, keepdim=True)
        weights = (shifted / temperature[rows, None]).softmax(dim=1)  # (rows, V)
        order = None
        if filtered[rows[0]]:
            weights, order = weights.sort(dim=1, descending=True, stable=True)
            weights = _cut(weights, top_k[rows], top_p[rows])
        cumulative = weights.cumsum(dim=1)  # (rows, V)
        total = cumulative[:, -1:]  # (rows, 1)
        last = (cumulative < total).sum(dim=1)  # rounding must not lead past the last token with any weight
        places = torch.searchsorted(cumulative, uniform[rows, None] * total, right=True)[:, 0].minimum(last)  # (rows,)
        tokens[rows] = places if order is None else order.gather(1, places[:, None])[:, 0]
    return tokens


def _cut(weights: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Weights (b, V), sorted in descending order, with tokens that are left out set to zero."""
    import torch

    rank = torch.arange(weights.shape[1])  # (V,)
    weights = weights.where((top_k[:, None] == 0) | (rank < top_k[:, None]), 0.0)
    share = weights / weights.sum(dim=1, keepdim=True)
    before = share.cumsum(dim=1) - share
    return weights.where((before < top_p[:, None]) | (rank == 0), 0.0)


def _ended(row: _Row, tokenizer: Any, end: bool) -> Completion | None:
    """The completion of a row if its last token ended it, else None."""
    stop = row.request.sampling.stop
    if end:
        return row.completion(_text(tokenizer, row, row.ids[:-1]), "stop")
    if stop:
        # A text of n bytes began at most n tokens ago; the window is longer, since some tokens decode to no text.
        recent = max(len(stop_text.encode()) for stop_text in stop) + _PREFIX
        tail = tokenizer.decode(row.ids[-recent:], skip_special_tokens=True)
        if any(stop_text in tail for stop_text in stop):
            text = _text(tokenizer, row, row.ids)
            ends = [text.index(stop_text) for stop_text in stop if stop_text in text]
            if ends:
                return row.completion(text[: min(ends)], "stop")
    if len(row.ids) >= row.most:
        # A character whose last bytes are missing is dropped.
        return row.completion(_text(tokenizer, row, row.ids).rstrip("\ufffd"), "length")
    return None


def _text(tokenizer: Any, row: _Row, ids: list[int]) -> str:
    """Decode a completion after its prompt: decoded alone, some tokenizers drop its leading space."""
    prefix = row.prompt[-_PREFIX:]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode(prefix, **options)
    both: str = tokenizer.decode(prefix + ids, **options)
    return encodable(both[len(before) :] if both.startswith(before) else str(tokenizer.decode(ids, **options)))


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion."""
    ids: int | Sequence[int] | None = None
    if model.generation_config is not None:
        ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    return frozenset([] if ids is None else [ids] if isinstance(ids, int) else ids)
