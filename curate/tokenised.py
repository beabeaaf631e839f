"""Examples as tokens of one proxy, tokenised when first asked for; what is asked for most often is in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.cache import Cache
from curate.examples import Examples
from curate.progress import Progress
from curate.tokenization import tokenize
from curate.tokens import Tokens

__all__ = ["Rows", "Tokenised"]


@dataclass(frozen=True)
class Rows:
    """What tokenising n examples says about each.

    valid: (n,) bool, rows with completion text; tokens: (n,) int32 completion tokens; truncated: (n,) bool.
    """

    valid: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tokenised:
    """tokenizer: makes it, or hands it out; called only if something is missing. key: of `rows` in the cache."""

    examples: Examples
    tokenizer: Callable[[], Any]
    template: str
    max_length: int
    cache: Cache
    key: str
    progress: Progress

    @cached_property
    def tokens(self) -> Tokens:
        with self.progress.stage("tokenise", len(self.examples)) as stage:
            tokens = tokenize(
                self.examples,
                self.tokenizer(),
                template=self.template,
                max_length=self.max_length,
                advance=stage.advance,
            )
            stage.cost.tokens = len(tokens.ids)
        return tokens

    @property
    def known(self) -> bool:
        """Whether the cache has `rows`."""
        return self.cache.get("rows", self.key) is not None

    @cached_property
    def rows(self) -> Rows:
        """Tokenises only the first time."""
        entry = self.cache.get("rows", self.key)
        names = ("valid", "tokens", "truncated")
        if entry is not None:
            return Rows(*(np.load(entry / f"{name}.npy", allow_pickle=False) for name in names))
        rows = Rows(self.tokens.valid, self.tokens.completion_tokens, self.tokens.truncated)

        def write(folder: Path) -> None:
            for name in names:
                np.save(folder / f"{name}.npy", getattr(rows, name), allow_pickle=False)

        self.cache.put("rows", self.key, write=write)
        return rows
