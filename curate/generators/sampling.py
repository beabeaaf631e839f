"""Sampling from a model in this process, several requests at a time, each as if it were alone."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from curate.errors import InputError
from curate.generation import Completion, Prompt, Request
from curate.generators.prompts import Mode, Template, as_text
from curate.generators.wire import encodable
from curate.seeds import derive_seed

__all__ = ["decode", "draw", "mode_of", "sample"]

_PREFIX = 6  # tokens of the prompt before a completion that can change how its first token is written


def sample(
    model: Any, tokenizer: Any, requests: Sequence[Request], *, template: Template = "auto", batch_size: int = 16
) -> list[Completion]:
    """Completions of `requests`, in their order, by a transformers model as it is, on the device it is on.

    The model is in evaluation mode meanwhile, and every module of it in its own mode again afterwards; no gradient
    is kept and no global random state used, so that a model may be sampled in the middle of its training.
    template: see `curate.generators.Transformers`.
    """
    completions: list[Completion | None] = [None] * len(requests)
    with evaluated(model):
        for low in range(0, len(requests), batch_size):
            places = range(low, min(low + batch_size, len(requests)))

            def finished(place: int, completion: Completion, low: int = low) -> None:
                completions[low + place] = completion

            decode(model, tokenizer, [requests[place] for place in places], mode_of(tokenizer, template), finished)
    return [completion for completion in completions if completion is not None]


@contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """The model in evaluation mode without gradients; every module's own mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def mode_of(tokenizer: Any, template: Template) -> Mode:
    """What "auto" stands for; InputError for "chat" without a chat template."""
    has = bool(tokenizer.chat_template)
    if template == "chat" and not has:
        raise InputError("the tokenizer has no chat template; set template: plain")
    return template if template != "auto" else ("chat" if has else "plain")


@dataclass
class _Row:
    """A request under way. prompt: its token ids; most: tokens that it may grow by; ids: those it has grown by."""

    place: int
    request: Request
    prompt: list[int]
    most: int
    randoms: random.Random
    ids: list[int] = field(default_factory=list)


def decode(
    model: Any, tokenizer: Any, requests: Sequence[Request], mode: Mode, finished: Callable[[int, Completion], None]
) -> None:
    """Draw one batch; `finished(place, completion)` is called with each as soon as it has ended.

    A row's numbers depend on its neighbours only by the rounding of matrix products; a row that has ended leaves the
    batch.
    """
    ends, context = _ends(model, tokenizer), _context(model)
    rows = []
    for place, request in enumerate(requests):
        ids = _encoded(tokenizer, request.prompt, mode)
        if not ids or (context is not None and len(ids) >= context):
            why = f"the prompt has {len(ids)} tokens, the model's context {context}" if ids else "the prompt is empty"
            finished(place, Completion("", "refused", len(ids), refusal=why))
            continue
        most = request.sampling.max_tokens if context is None else min(request.sampling.max_tokens, context - len(ids))
        randoms = random.Random(derive_seed(request.seed, request.index))
        rows.append(_Row(place, request, ids, most, randoms))
    step = _Steps(model, [row.prompt for row in rows])
    while rows:
        logits = step.logits()
        sampling = [row.request.sampling for row in rows]
        drawn = draw(
            logits,
            torch.tensor([each.temperature for each in sampling], dtype=torch.float64),
            torch.tensor([each.top_k for each in sampling]),
            torch.tensor([each.top_p for each in sampling], dtype=torch.float64),
            torch.tensor([row.randoms.random() for row in rows], dtype=torch.float64),
        )
        going = []
        for k, (row, token) in enumerate(zip(rows, drawn.tolist(), strict=True)):
            row.ids.append(token)
            completion = _ended(row, tokenizer, token in ends)
            if completion is None:
                going.append(k)
            else:
                finished(row.place, completion)
        rows = [rows[k] for k in going]
        step.append(drawn[going], going)


class _Steps:
    """Forward passes over rows padded on the left, one new token each after the first."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        device = model.get_input_embeddings().weight.device
        longest = max(map(len, prompts), default=0)
        self.mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        self.ids = torch.tensor([[ids[0]] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
        self.cache: Any = None
        known = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in known
        # Of the prompt, only what its last token predicts is wanted.
        self.options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}

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
        logits: torch.Tensor = out.logits[:, -1].float()
        if logits.isnan().any():
            raise InputError("the model's logits are not numbers; check its weights, or set precision: float32")
        return logits

    def append(self, tokens: torch.Tensor, going: Sequence[int]) -> None:
        """The next token (b',) of the rows that go on, which are those at the positions `going`."""
        index = torch.tensor(going, dtype=torch.int64, device=self.mask.device)
        if len(going) < len(self.mask) and going:
            self.cache.reorder_cache(index)
            self.mask = self.mask[index]
        self.ids = tokens.to(self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """(b,) int64 tokens drawn from logits (b, V), on the CPU; all other arguments (b,), as `Sampling` means them.

    uniform: number in [0, 1) that decides each draw. The most likely top_k are taken first, and of them the fewest
    that have top_p of what they have together.
    """
    logits = logits.cpu()
    tokens = logits.argmax(dim=1)
    filtered = (top_k > 0) | (top_p < 1)
    for rows in (torch.nonzero((temperature > 0) & ~filtered)[:, 0], torch.nonzero((temperature > 0) & filtered)[:, 0]):
        if len(rows) == 0:
            continue
        # Less the largest first: a temperature near zero must not overflow.
        shifted = logits[rows].double() - logits[rows].double().amax(dim=1, keepdim=True)
        weights = (shifted / temperature[rows, None]).softmax(dim=1)
        order = None
        if filtered[rows[0]]:
            weights, order = weights.sort(dim=1, descending=True, stable=True)
            weights = _cut(weights, top_k[rows], top_p[rows])
        cumulative = weights.cumsum(dim=1)
        total = cumulative[:, -1:]
        last = (cumulative < total).sum(dim=1)  # rounding must not lead beyond the last token that has any weight
        places = torch.searchsorted(cumulative, uniform[rows, None] * total, right=True)[:, 0].minimum(last)
        tokens[rows] = places if order is None else order.gather(1, places[:, None])[:, 0]
    return tokens


def _cut(weights: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Weights (b, V), sorted downwards, with zeros where tokens are left out."""
    rank = torch.arange(weights.shape[1])
    weights = weights.where((top_k[:, None] == 0) | (rank < top_k[:, None]), 0.0)
    share = weights / weights.sum(dim=1, keepdim=True)
    before = share.cumsum(dim=1) - share
    return weights.where((before < top_p[:, None]) | (rank == 0), 0.0)


def _ended(row: _Row, tokenizer: Any, end: bool) -> Completion | None:
    """The completion of a row if its last token ended it."""
    stop = row.request.sampling.stop
    counts = (len(row.prompt), len(row.ids))
    if end:
        return Completion(_text(tokenizer, row, row.ids[:-1]), "stop", *counts)
    if stop:
        # A text of n bytes began at most n tokens ago; what is looked at is longer, since one token may be no text.
        recent = max(len(each.encode()) for each in stop) + _PREFIX
        tail = tokenizer.decode(row.ids[-recent:], skip_special_tokens=True)
        if any(each in tail for each in stop):
            text = _text(tokenizer, row, row.ids)
            found = [text.index(each) for each in stop if each in text]
            if found:
                return Completion(text[: min(found)], "stop", *counts)
    if len(row.ids) >= row.most:
        # A character of which the last bytes are missing is none.
        return Completion(_text(tokenizer, row, row.ids).rstrip("\ufffd"), "length", *counts)
    return None


def _text(tokenizer: Any, row: _Row, ids: list[int]) -> str:
    """The completion's text as it follows the prompt: alone, some tokenizers take the space off its front."""
    prefix = row.prompt[-_PREFIX:]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode(prefix, **options)
    both: str = tokenizer.decode(prefix + ids, **options)
    return encodable(both[len(before) :] if both.startswith(before) else str(tokenizer.decode(ids, **options)))


def _encoded(tokenizer: Any, prompt: Prompt, mode: Mode) -> list[int]:
    if mode == "chat" and not isinstance(prompt, str):
        messages = [dict(message) for message in prompt]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # Jinja raises whatever the template's author chose
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the chat template refused the messages ({reason}); change their roles") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer(as_text(prompt))["input_ids"])


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion."""
    given: int | Sequence[int] | None = None
    if model.generation_config is not None:
        given = model.generation_config.eos_token_id
    if given is None:
        given = tokenizer.eos_token_id
    return frozenset([] if given is None else [given] if isinstance(given, int) else given)


def _context(model: Any) -> int | None:
    """Most tokens of prompt and completion together; None = no limit is known."""
    settings: Mapping[str, Any] = model.config.get_text_config().to_dict()
    return next(
        (int(settings[name]) for name in ("max_position_embeddings", "n_positions") if settings.get(name)), None
    )
