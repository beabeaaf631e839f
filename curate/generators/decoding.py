"""Sampling from a model in this process, several requests at a time, each as if it were alone."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import InputError
from curate.generators.chat import Mode, Template, as_text
from curate.generators.payloads import encodable
from curate.generators.requests import Completion, Prompt, Queue, Request
from curate.generators.steps import Steps
from curate.models.loading import context_of
from curate.seeds import derive_seed
from curate.tokenization.chat_template import check_not_lost

if TYPE_CHECKING:
    import torch


__all__ = ["decode", "draw", "encode_prompt", "evaluated", "mode_of", "sample"]

_PREFIX = 6  # tokens of the prompt before a completion that can change how its first token is written


def sample(
    model: Any, tokenizer: Any, requests: Sequence[Request], *, template: Template = "auto", batch_size: int = 16
) -> list[Completion]:
    """Completions of `requests`, in their order, by a transformers model as it is, on the device it is on.

    The model is in evaluation mode meanwhile, and every module of it in its own mode again afterwards; no gradient
    is kept and no global random state used, so that a model may be sampled in the middle of its training.
    template: see `curate.generators.Transformers`.
    """
    queue = _Listed(requests)
    with evaluated(model):
        decode(model, tokenizer, queue, mode_of(tokenizer, template), batch_size)
    return [queue.completions[place] for place in range(len(requests))]


class _Listed:
    """A queue of requests in memory; equal ones are drawn each for itself."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.completions: dict[int, Completion] = {}
        self._waiting = deque(enumerate(requests))
        self._places: dict[int, list[int]] = {}  # by the identity of a request: equal ones may be another's

    def take(self, most: int) -> list[Request]:
        taken: list[Request] = []
        while self._waiting and len(taken) < most:
            place, request = self._waiting.popleft()
            self._places.setdefault(id(request), []).append(place)
            taken.append(request)
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        self.completions[self._places[id(request)].pop()] = completion


@contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """The model in evaluation mode without gradients; every module's own mode comes back."""
    import torch

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
    if not has and template != "plain":
        check_not_lost(getattr(tokenizer, "init_kwargs", {}), tokenizer.name_or_path)
    if template == "chat" and not has:
        raise InputError("the tokenizer has no chat template; set template: plain")
    return template if template != "auto" else ("chat" if has else "plain")


@dataclass
class _Row:
    """A request under way. prompt: its token ids; most: tokens that it may grow by; ids: those it has grown by."""

    request: Request
    prompt: list[int]
    most: int
    randoms: random.Random
    ids: list[int] = field(default_factory=list)

    def completion(self, text: str, reason: Literal["stop", "length"]) -> Completion:
        cap = self.most if self.most < self.request.sampling.max_tokens else None
        return Completion(text, reason, len(self.prompt), len(self.ids), cap=cap)


def decode(model: Any, tokenizer: Any, queue: Queue, mode: Mode, batch_size: int) -> None:
    """Serve `queue`, up to `batch_size` requests at a time; each completion is handed back as soon as it has ended.

    A row's numbers depend on its neighbours only by the rounding of matrix products. A row that has ended leaves the
    batch, and once a quarter of the places is free others take them, where the model's cache allows that.
    """
    batch = _Batch(model, tokenizer, queue)
    enough = max(1, batch_size // 4)
    done_when_asked = -1
    while True:
        room = batch_size - len(batch.rows)
        if not batch.rows or (room >= enough and batch.done > done_when_asked and batch.takes_more):
            # An empty answer holds until another row is done.
            done_when_asked = batch.done
            requests = queue.take(room)
            batch.begin(requests, mode)
            if not batch.rows:
                if not requests:
                    return
                continue
        batch.step()


class _Batch:
    """The rows under way, one forward pass after the other. done: how many have left."""

    def __init__(self, model: Any, tokenizer: Any, queue: Queue) -> None:
        self.model, self.tokenizer, self.queue = model, tokenizer, queue
        self.ends, self.context = _ends(model, tokenizer), context_of(model.config)
        self.rows: list[_Row] = []
        self.steps = Steps(model, [])
        self.done = 0

    @property
    def takes_more(self) -> bool:
        return self.steps.joinable

    def begin(self, requests: Sequence[Request], mode: Mode) -> None:
        """Read the prompts, and draw the first token of each."""
        rows = [row for row in (self._admitted(request, mode) for request in requests) if row is not None]
        if not rows:
            return
        steps = Steps(self.model, [row.prompt for row in rows])
        rows = self._advance(rows, steps)
        if self.rows and rows:
            self.steps.join(steps)
        elif rows:
            self.steps = steps
        self.rows += rows

    def step(self) -> None:
        """Draw one token of every row."""
        self.rows = self._advance(self.rows, self.steps)

    def _admitted(self, request: Request, mode: Mode) -> _Row | None:
        ids, context = encode_prompt(self.tokenizer, request.prompt, mode), self.context
        if not ids or (context is not None and len(ids) >= context):
            why = f"the prompt has {len(ids)} tokens, the model's context {context}" if ids else "the prompt is empty"
            self._hand_back(request, Completion("", "refused", len(ids), refusal=why))
            return None
        most = request.sampling.max_tokens if context is None else min(request.sampling.max_tokens, context - len(ids))
        return _Row(request, ids, most, random.Random(derive_seed(request.seed, request.index)))

    def _advance(self, rows: list[_Row], steps: Steps) -> list[_Row]:
        """Draw one token of each row; those that go on."""
        import torch

        sampling = [row.request.sampling for row in rows]
        drawn = draw(
            steps.logits(),
            torch.tensor([each.temperature for each in sampling], dtype=torch.float64),
            torch.tensor([each.top_k for each in sampling]),
            torch.tensor([each.top_p for each in sampling], dtype=torch.float64),
            torch.tensor([row.randoms.random() for row in rows], dtype=torch.float64),
        )
        going = []
        for k, (row, token) in enumerate(zip(rows, drawn.tolist(), strict=True)):
            row.ids.append(token)
            completion = _ended(row, self.tokenizer, token in self.ends)
            if completion is None:
                going.append(k)
            else:
                self._hand_back(row.request, completion)
        steps.append(drawn[going], going)
        return [rows[k] for k in going]

    def _hand_back(self, request: Request, completion: Completion) -> None:
        self.queue.done(request, completion)
        self.done += 1


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """(b,) int64 tokens drawn from logits (b, V), on the CPU; all other arguments (b,), as `Sampling` means them.

    uniform: number in [0, 1) that decides each draw. The most likely top_k are taken first, and of them the fewest
    that have top_p of what they have together.
    """
    import torch

    tokens = logits.argmax(dim=1).cpu()  # where they are: the logits of a batch are tens of megabytes
    if not (temperature > 0).any():
        return tokens
    logits = logits.cpu()
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
    import torch

    rank = torch.arange(weights.shape[1])
    weights = weights.where((top_k[:, None] == 0) | (rank < top_k[:, None]), 0.0)
    share = weights / weights.sum(dim=1, keepdim=True)
    before = share.cumsum(dim=1) - share
    return weights.where((before < top_p[:, None]) | (rank == 0), 0.0)


def _ended(row: _Row, tokenizer: Any, end: bool) -> Completion | None:
    """The completion of a row if its last token ended it."""
    stop = row.request.sampling.stop
    if end:
        return row.completion(_text(tokenizer, row, row.ids[:-1]), "stop")
    if stop:
        # A text of n bytes began at most n tokens ago; what is looked at is longer, since one token may be no text.
        recent = max(len(each.encode()) for each in stop) + _PREFIX
        tail = tokenizer.decode(row.ids[-recent:], skip_special_tokens=True)
        if any(each in tail for each in stop):
            text = _text(tokenizer, row, row.ids)
            found = [text.index(each) for each in stop if each in text]
            if found:
                return row.completion(text[: min(found)], "stop")
    if len(row.ids) >= row.most:
        # A character of which the last bytes are missing is none.
        return row.completion(_text(tokenizer, row, row.ids).rstrip("\ufffd"), "length")
    return None


def _text(tokenizer: Any, row: _Row, ids: list[int]) -> str:
    """The completion's text as it follows the prompt: alone, some tokenizers take the space off its front."""
    prefix = row.prompt[-_PREFIX:]
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before: str = tokenizer.decode(prefix, **options)
    both: str = tokenizer.decode(prefix + ids, **options)
    return encodable(both[len(before) :] if both.startswith(before) else str(tokenizer.decode(ids, **options)))


def encode_prompt(tokenizer: Any, prompt: Prompt, mode: Mode) -> list[int]:
    """Token ids of a prompt. Text that begins with a beginning of sequence gets no second one."""
    if mode == "chat" and not isinstance(prompt, str):
        messages = [dict(message) for message in prompt]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # Jinja raises whatever the template's author chose
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the chat template refused the messages ({reason}); change their roles") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = as_text(prompt)
    begun = bool(tokenizer.bos_token) and text.startswith(str(tokenizer.bos_token))
    return list(tokenizer(text, add_special_tokens=not begun)["input_ids"])


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion."""
    given: int | Sequence[int] | None = None
    if model.generation_config is not None:
        given = model.generation_config.eos_token_id
    if given is None:
        given = tokenizer.eos_token_id
    return frozenset([] if given is None else [given] if isinstance(given, int) else given)
