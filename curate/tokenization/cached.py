"""Tokens of a dataset, computed on first use, and cached lengths and validity of its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.engine.protocol import Engine
from curate.storage.cache import Cache
from curate.tokenization.shards import Tokenizing, tokens_in_parts, whole_lengths
from curate.tokenization.templates import Supervise
from curate.tokenization.tokens import IN_MEMORY, Tokens, open_tokens, write_tokens
from curate.types import BoolArray, IntArray

AUTO = "auto"
_SHARE = 0.99  # of the rows that should not be truncated
_ROUND = 64  # tokens; lengths are rounded up to multiples, those below it of an eighth
_LONGEST = 4096  # tokens, for a model without a limit, such as one from scratch

_ARRAYS = ("valid", "tokens", "lengths", "prompt_cut", "completion_cut")


@dataclass(frozen=True)
class RowValidity:
    """Lengths and validity of n tokenized rows.

    valid: (n,) bool, rows with completion text; tokens: (n,) int32 completion tokens; lengths: (n,) int64 all tokens;
    prompt_cut, completion_cut: (n,) int32, see `curate.tokenization.tokens.Tokens`.
    refused: row -> why the template cannot render it; such a row is not valid.
    """

    valid: BoolArray
    tokens: npt.NDArray[np.int32]
    lengths: IntArray
    prompt_cut: npt.NDArray[np.int32]
    completion_cut: npt.NDArray[np.int32]
    refused: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: Tokens, refused: Mapping[int, str]) -> RowValidity:
        """Lengths and validity of tokenized rows."""
        cuts = (tokens.prompt_cut, tokens.completion_cut)
        return cls(tokens.valid, tokens.completion_tokens, tokens.lengths, *cuts, refused)

    @property
    def truncated(self) -> BoolArray:
        """(n,) bool; the row was longer than max_length."""
        return (self.prompt_cut > 0) | (self.completion_cut > 0)


def truncation_facts(rows: RowValidity | Tokens, name: str = "rows_truncated") -> dict[str, int]:
    """Counts of rows that were longer than max_length (under `name`) and of what was cut from them, for a record."""
    return {
        name: int(rows.truncated.sum()),
        "prompts_cut": int((rows.prompt_cut > 0).sum()),
        "completions_cut": int((rows.completion_cut > 0).sum()),
    }


@dataclass(frozen=True)
class CachedTokens:
    """Tokens of `examples`, computed on first use.

    tokenizer: returns it; called only if something is missing. key: of `rows` in the cache. engine: its workers
    tokenize; None = this process.
    """

    examples: Examples
    tokenizer: Callable[[], Any]
    template: str
    max_length: int
    cache: Cache
    key: str
    progress: Progress
    supervise: Supervise = "all"
    engine: Engine | None = None

    @property
    def tokens(self) -> Tokens:
        return self._encoded[0]

    @property
    def refused(self) -> dict[int, str]:
        """Row -> why the template cannot render it; such a row has no tokens."""
        return self._encoded[1]

    @cached_property
    def _encoded(self) -> tuple[Tokens, dict[int, str]]:
        """Tokens, and row -> why the template refuses it; many tokens are memory-mapped from the cache."""
        if (entry := self.cache.get("tokens", self.key)) is not None:
            return open_tokens(entry), _read_refused(entry)
        refused: dict[int, str] = {}
        with self.progress.stage("tokenize", len(self.examples)) as stage:
            settings = Tokenizing(self.tokenizer(), self.template, self.max_length, self.supervise)
            parts = tokens_in_parts(self.examples, settings, self.engine, stage.advance, refused.__setitem__)
            first, more = _first_parts(parts)
            if not more:
                tokens = Tokens.concatenate(first)
            else:
                with self.cache.writing("tokens", self.key) as folder:
                    write_tokens(chain(first, more, parts), folder)
                    _write_refused(refused, folder)
                entry = self.cache.get("tokens", self.key)
                assert entry is not None  # it was written just now
                tokens = open_tokens(entry)
            stage.cost.tokens = len(tokens.ids)
        return tokens, refused

    def report_refused(self) -> None:
        """Print a line about rows that the template cannot render, if there are any."""
        if refused := self.rows.refused:
            first = min(refused)
            self.progress.note(f"  {len(refused):,} rows cannot be scored, e.g. row {first}: {refused[first]}")

    @property
    def known(self) -> bool:
        """Whether the cache holds `rows`."""
        return self.cache.get("rows", self.key) is not None

    @cached_property
    def rows(self) -> RowValidity:
        """Lengths and validity of all rows, from the cache; tokenizes only the first time."""
        entry = self.cache.get("rows", self.key)
        if entry is not None:
            arrays = {name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
            return RowValidity(**arrays, refused=_read_refused(entry))
        rows = RowValidity.of(*self._encoded)

        with self.cache.writing("rows", self.key) as folder:
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(rows, name), allow_pickle=False)
            _write_refused(rows.refused, folder)
        return rows


def _first_parts(parts: Iterator[Tokens]) -> tuple[list[Tokens], list[Tokens]]:
    """The parts that fit in memory, and the first one that does not, as a list; empty if all fit."""
    first, tokens_held = list[Tokens](), 0
    for part in parts:
        tokens_held += len(part.ids)
        if tokens_held > IN_MEMORY:
            return first, [part]
        first.append(part)
    return first, []


def _read_refused(entry: Path) -> dict[int, str]:
    refused = json.loads((entry / "refused.json").read_text(encoding="utf-8"))
    return {int(row): reason for row, reason in refused.items()}


def _write_refused(refused: Mapping[int, str], folder: Path) -> None:
    (folder / "refused.json").write_text(json.dumps(refused), encoding="utf-8")


def length_for(lengths: IntArray, context: int | None) -> int:
    """The smallest maximum length, rounded up, that truncates at most 1 % of the rows, within the model's context.

    lengths: (n,) tokens per row. context: most tokens of the model, None = no limit.
    """
    limit = context or _LONGEST
    if not len(lengths):
        return limit
    length = max(int(np.sort(lengths)[math.ceil(_SHARE * len(lengths)) - 1]), 2)
    step = _ROUND if length > _ROUND else _ROUND // 8
    return min(-(-length // step) * step, limit)


def auto_length(
    examples: Examples,
    tokenizer: Callable[[], Any],
    template: str,
    context: int | None,
    cache: Cache,
    key: str,
    progress: Progress,
    supervise: Supervise = "all",
    engine: Engine | None = None,
) -> int:
    """`length_for` of these examples without rows that the template refuses; cached under `key`.

    tokenizer: returns it; called only on a cache miss. context: most tokens of the model, None = no limit. engine: see
    `CachedTokens`.
    """
    entry = cache.get("lengths", key)
    if entry is not None:
        return int(json.loads((entry / "length.json").read_text(encoding="utf-8")))
    with progress.stage("measure lengths", len(examples)) as stage:
        settings = Tokenizing(tokenizer(), template, context or _LONGEST, supervise)
        lengths = whole_lengths(examples, settings, engine, stage.advance)
    length = length_for(lengths, context)

    with cache.writing("lengths", key) as folder:
        (folder / "length.json").write_text(json.dumps(length), encoding="utf-8")
    return length
