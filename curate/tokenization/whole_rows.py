"""`max_length: auto`: the length at which nearly all rows of a dataset are whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.storage.cache import Cache
from curate.tokenization.encoding import tokenize
from curate.types import IntArray

__all__ = ["AUTO", "auto_length", "length_for"]

AUTO = "auto"
_SHARE = 0.99  # of the rows that are to be whole
_ROUND = 64  # tokens; lengths are rounded up to multiples, those below it of an eighth
_LONGEST = 4096  # tokens, for a model that sets no limit, as one from scratch


def length_for(lengths: IntArray, context: int | None) -> int:
    """The smallest length at which 99 % of rows of these (n,) lengths are whole, rounded up, within the context."""
    limit = context or _LONGEST
    if not len(lengths):
        return limit
    wanted = max(int(np.sort(lengths)[math.ceil(_SHARE * len(lengths)) - 1]), 2)
    step = _ROUND if wanted > _ROUND else _ROUND // 8
    return min(-(-wanted // step) * step, limit)


def auto_length(
    examples: Examples,
    tokenizer: Callable[[], Any],
    template: str,
    context: int | None,
    cache: Cache,
    key: str,
    progress: Progress,
) -> int:
    """`length_for` these examples, rows that the template refuses left out; the cache knows it under `key`.

    tokenizer: makes it; called only if the cache does not know. context: most tokens of the model, None = no limit.
    """
    entry = cache.get("lengths", key)
    if entry is not None:
        return int(json.loads((entry / "length.json").read_text(encoding="utf-8")))
    with progress.stage("measure lengths", len(examples)) as stage:
        tokens = tokenize(
            examples,
            tokenizer(),
            template=template,
            max_length=context or _LONGEST,
            advance=stage.advance,
            refuse=lambda row, reason: None,
        )
    whole = tokens.lengths + tokens.prompt_cut + tokens.completion_cut
    length = length_for(whole[tokens.valid], context)

    def write(folder: Path) -> None:
        (folder / "length.json").write_text(json.dumps(length), encoding="utf-8")

    cache.put("lengths", key, write=write)
    return length
