"""Rows of the demo table: numbers by level and family, splits, and distinct questions."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.seeds import derive_seed
from curate.word_problems.everyday import ages, mixtures, percentages, shopping
from curate.word_problems.measured import geometry, patterns, travel, work
from curate.word_problems.solution import Draw, Problem, show
from curate.word_problems.wording import answer_text, question_text

_BUILDERS: dict[str, Callable[[Draw, int], Problem]] = {
    "shopping": shopping,
    "travel": travel,
    "mixtures": mixtures,
    "ages": ages,
    "geometry": geometry,
    "percentages": percentages,
    "work": work,
    "patterns": patterns,
}
FAMILIES = tuple(_BUILDERS)
# Real data has no difficulty column. Here `level` is known by construction: harder problems have more steps, longer
# numbers, several operations in one equation, units to convert, and irrelevant facts. Length does not reveal the
# level, as it would in a naive generator: easy answers are often wordy, hard ones often terse.
LEVELS = (1, 2, 3, 4)
MIXTURE: Mapping[int, float] = {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}
SPLITS: Mapping[str, range] = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("final_answer", pa.string()),
        ("source", pa.string()),
        ("level", pa.int8()),
        ("steps", pa.int8()),
    ]
)
_NUMBERS = re.compile(r"\d+")
_TRIES = 2000  # consecutive draws without a new question after which a family and level are exhausted


def generate(
    n: int = 3000,
    seed: int = 0,
    *,
    families: Sequence[str] | None = None,
    levels: Sequence[int] | None = None,
    mixture: Mapping[int, float] | None = None,
    split: str = "train",
) -> pa.Table:
    """n different maths word problems with worked solutions, in random order.

    families: some of FAMILIES (default all), in equal shares within each level.
    levels: some of LEVELS; the default mixture is then taken over these.
    mixture: level -> weight, any positive scale; row counts are exact to rounding. Default MIXTURE: mostly
        easy, as real data is.
    split: one of SPLITS. A question belongs to one split by the numbers in it, so two splits share neither a
        question nor the numbers of one, whatever the seeds.

    Columns: id (string, unique, the same for the same question), question, answer (worked solution, one step
    a line, last line `#### <final_answer>`), final_answer (integer, exact decimal or fraction in
    lowest terms), source (the family), level (int8, 1 easy to 4 hard), steps (int8, equations in the solution).

    The same arguments give the same table; a larger n does not extend a smaller one. Raises InputError for an
    unknown family, level or split, and where a family has fewer different questions than asked for.
    """
    chosen = _families(families)
    weights = _weights(levels, mixture)
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
    if n < 1:
        raise InputError(f"n is {n}; ask for at least one row")
    rows: list[tuple[str, str, str, str, str, int, int]] = []
    seen: set[str] = set()
    for level, count in zip(weights, _shares(n, list(weights.values())), strict=True):
        for family, part in zip(chosen, _shares(count, [1.0] * len(chosen), first=level), strict=True):
            draw = Draw(derive_seed(seed, "demo", split, family, level))
            rows += [_row(draw, family, level, split, seen) for _ in range(part)]
    order = np.argsort([derive_seed(seed, "demo order", row[0]) for row in rows], kind="stable")
    columns: list[list[Any]] = [list(column) for column in zip(*[rows[i] for i in order], strict=True)]
    return pa.table(dict(zip(_SCHEMA.names, columns, strict=True)), schema=_SCHEMA)


def _row(draw: Draw, family: str, level: int, split: str, seen: set[str]) -> tuple[str, str, str, str, str, int, int]:
    for _ in range(_TRIES):
        problem = _BUILDERS[family](draw, level)
        question = question_text(draw, level, problem)
        if question in seen or _bucket(question) not in SPLITS[split]:
            continue
        seen.add(question)
        answer = answer_text(draw, level, problem.steps)
        final = show(problem.steps[-1].value)
        digest = hashlib.blake2b(question.encode(), digest_size=10).hexdigest()
        return f"{family}-{digest}", question, answer, final, family, level, len(problem.steps)
    raise InputError(
        f"family {family!r} has too few different questions of level {level} in split {split!r}; "
        "ask for fewer rows, or for more families or levels"
    )


def _bucket(question: str) -> int:
    """A bucket 0..9, from the numbers of the question in order; equal questions have equal numbers."""
    numbers = " ".join(_NUMBERS.findall(question))
    return int.from_bytes(hashlib.blake2b(numbers.encode(), digest_size=4).digest(), "little") % 10


def _families(families: Sequence[str] | None) -> list[str]:
    chosen = list(FAMILIES if families is None else families)
    for family in chosen:
        if family not in _BUILDERS:
            raise InputError(f"family {family!r} is unknown; use some of {', '.join(FAMILIES)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"families is {chosen}; name at least one, each once")
    return chosen


def _weights(levels: Sequence[int] | None, mixture: Mapping[int, float] | None) -> dict[int, float]:
    weights = MIXTURE if mixture is None else mixture
    level_list = list(weights if levels is None else levels)
    if not level_list or len(set(level_list)) < len(level_list):
        raise InputError(f"levels is {level_list}; name at least one, each once")
    for level in [*level_list, *weights]:
        if level not in LEVELS:
            raise InputError(f"level {level!r} is unknown; use some of 1, 2, 3, 4")
    if mixture is not None and set(mixture) != set(level_list):
        raise InputError(f"mixture has levels {sorted(mixture)} but levels is {sorted(level_list)}; give one of them")
    for level in level_list:
        if not (math.isfinite(weights[level]) and weights[level] > 0):
            raise InputError(f"mixture of level {level} is {weights[level]}; weights must be positive numbers")
    return {level: weights[level] for level in sorted(level_list)}


def _shares(n: int, weights: Sequence[float], first: int = 0) -> list[int]:
    """n split in proportion to the weights; the remainder goes to the largest fractional parts.

    Ties are broken in rotation from position `first`, so that the same family is not favored at every level.
    """
    total = sum(weights)
    exact = [n * weight / total for weight in weights]
    counts = [math.floor(value + 1e-9) for value in exact]
    size = len(weights)
    by_remainder = sorted(range(size), key=lambda i: (-round(exact[i] - counts[i], 9), (i - first) % size))
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    return counts
