"""Tokenize examples in this process, or shard by shard on the workers of an engine, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from curate.data.examples import Examples
from curate.engine.protocol import Engine, Item, WorkerContext
from curate.tokenization.encoding import Refuse, token_parts
from curate.tokenization.templates import Supervise
from curate.tokenization.tokens import Tokens
from curate.types import IntArray

SHARD_ROWS = 4096  # rows of a shard; fewer are tokenized in this process. Does not affect the result
_WINDOW = 256  # shards in progress or waiting for earlier ones, which bounds memory


@dataclass(frozen=True)
class Tokenizing:
    """How rows become tokens, see `curate.tokenization.encoding.tokenize`."""

    tokenizer: Any
    template: str
    max_length: int
    supervise: Supervise

    def parts(self, examples: Examples, advance: Callable[[int], None] | None, refuse: Refuse) -> Iterator[Tokens]:
        """The tokens of these examples in parts, made in this process."""
        return token_parts(
            examples,
            self.tokenizer,
            template=self.template,
            max_length=self.max_length,
            supervise=self.supervise,
            advance=advance,
            refuse=refuse,
        )


def tokens_in_parts(
    examples: Examples,
    tokenizing: Tokenizing,
    engine: Engine | None,
    advance: Callable[..., None],
    refuse: Refuse,
) -> Iterator[Tokens]:
    """Tokens of all rows as consecutive parts. engine: its workers tokenize; None = this process.

    advance: called with the number of rows done, and on an engine with a progress text.
    """
    if engine is None or len(examples) <= SHARD_ROWS:
        return tokenizing.parts(examples, advance, refuse)
    return _on_workers(examples, _TokenizingWorker, tokenizing, engine, advance, refuse)


def whole_lengths(
    examples: Examples, tokenizing: Tokenizing, engine: Engine | None, advance: Callable[..., None]
) -> IntArray:
    """(valid rows,) int64 tokens per valid row before truncation. Parameters as in `tokens_in_parts`."""
    if engine is None or len(examples) <= SHARD_ROWS:
        return np.concatenate([_whole(part) for part in tokenizing.parts(examples, advance, _ignore)])
    return np.concatenate(list(_on_workers(examples, _MeasuringWorker, tokenizing, engine, advance, _ignore)))


def _on_workers(
    examples: Examples,
    worker: Callable[[Any, WorkerContext], Any],
    tokenizing: Tokenizing,
    engine: Engine,
    advance: Callable[..., None],
    refuse: Refuse,
) -> Iterator[Any]:
    """What the workers return for every shard, in row order. Runs on the driver."""
    content = examples.content()
    lows = range(0, len(examples), SHARD_ROWS)

    def shard(low: int) -> Examples:
        part = content.slice(low, min(low + SHARD_ROWS, len(content)))
        return part.take(np.arange(len(part)))  # a copy: a slice would be sent with the whole table

    items = [Item(partial(shard, low), min(SHARD_ROWS, len(examples) - low)) for low in lows]
    results = engine.map(worker, tokenizing, items, stage="tokenize", window=_WINDOW)
    for position, (result, refused), progress in results:
        for row, reason in refused.items():
            refuse(lows[position] + row, reason)
        advance(items[position].rows, progress)
        yield result


class _TokenizingWorker:
    """Runs on a worker: (tokens, row -> why the template refuses it) of a shard."""

    def __init__(self, tokenizing: Tokenizing, worker: WorkerContext) -> None:
        self.tokenizing = tokenizing

    def __call__(self, examples: Examples) -> tuple[Any, dict[int, str]]:
        refused: dict[int, str] = {}
        return self.result(list(self.tokenizing.parts(examples, None, refused.__setitem__))), refused

    def result(self, parts: list[Tokens]) -> Any:
        return Tokens.concatenate(parts)


class _MeasuringWorker(_TokenizingWorker):
    """Runs on a worker: the lengths of `whole_lengths` instead of tokens."""

    def result(self, parts: list[Tokens]) -> Any:
        return np.concatenate([_whole(part) for part in parts])


def _whole(part: Tokens) -> IntArray:
    """(valid rows,) tokens before truncation."""
    lengths: IntArray = (part.lengths + part.prompt_cut + part.completion_cut)[part.valid]
    return lengths


def _ignore(row: int, reason: str) -> None:
    """Accept rows that the template refuses."""
