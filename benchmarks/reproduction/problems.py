"""Generate arithmetic problems with worked steps: six families of four levels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from curate.seeds import derive_seed

# Rows of 20 to 90 tokens, so that a transformer of a million parameters sees tens of thousands of them in a minute of
# one core. Higher levels take more of the same steps; nothing in a completion is left to chance, so a loss can fall to
# 0.

LEVELS = (1, 2, 3, 4)
# A question belongs to one split by its hash, whatever the seeds, so that no split holds a question of another.
SPLITS: Mapping[str, range] = {"pretrain": range(6), "train": range(6, 9), "test": range(9, 10)}
_TRIES = 10_000  # draws in a row without a new question before a family and level count as used up


def _addition(rng: np.random.Generator, level: int) -> tuple[str, list[int], int]:
    digits = level + 1
    a, b = (int(rng.integers(10 ** (digits - 1), 10**digits)) for _ in range(2))
    steps, carry = [], 0
    for i in range(digits):
        steps.append(a // 10**i % 10 + b // 10**i % 10 + carry)
        carry = steps[-1] // 10
    return f"{a}+{b}", steps, a + b


def _sum(rng: np.random.Generator, level: int) -> tuple[str, list[int], int]:
    terms = rng.integers(1, 10, size=level + 3)
    return f"sum {' '.join(map(str, terms))}", np.cumsum(terms)[1:].tolist(), int(terms.sum())


def _chain(rng: np.random.Generator, level: int) -> tuple[str, list[int], int]:
    value = int(rng.integers(1, 10))
    text, steps = [str(value)], []
    for _ in range(level + 1):
        operation, number = str(rng.choice(["+", "-", "*"])), int(rng.integers(2, 10))
        text.append(f"{operation}{number}")
        value = {"+": value + number, "-": value - number, "*": value * number}[operation] % 10
        steps.append(value)
    return f"chain {' '.join(text)}", steps, value


def _reversal(rng: np.random.Generator, level: int) -> tuple[str, list[int], int]:
    digits = rng.integers(1, 10, size=2 * level + 2).tolist()
    return f"reverse {''.join(map(str, digits))}", [], int("".join(map(str, digits[::-1])))


_FAMILIES: dict[str, Callable[[np.random.Generator, int], tuple[str, list[int], int]]] = {
    "addition": _addition,
    "sum": _sum,
    "chain": _chain,
    "reversal": _reversal,
}
FAMILIES = tuple(_FAMILIES)


def problems(n: int, mixture: Mapping[int, float], split: str, seed: int) -> pa.Table:
    """n different problems in random order: columns id, question, answer, final_answer, source, level (string).

    mixture: level -> weight; families have equal shares within a level, exact to rounding. The same arguments give
    the same table.
    """
    rows, seen = [], set[str]()
    weights = np.array([mixture[level] for level in mixture], float)
    cells = np.repeat(weights / weights.sum() / len(FAMILIES), len(FAMILIES))
    bounds = np.round(np.cumsum(cells) * n).astype(int)
    counts = np.diff(np.concatenate([[0], bounds])).reshape(len(weights), len(FAMILIES))
    for level, row in zip(mixture, counts.tolist(), strict=True):
        for family, count in zip(FAMILIES, row, strict=True):
            rng = np.random.default_rng(derive_seed(seed, "reproduction", split, family, level))
            rows += [_row(rng, family, level, split, seen) for _ in range(count)]
    order = np.random.default_rng(derive_seed(seed, "reproduction", split)).permutation(len(rows))
    names = ("id", "question", "answer", "final_answer", "source", "level")
    return pa.table({name: [rows[i][k] for i in order] for k, name in enumerate(names)})


def _row(
    rng: np.random.Generator, family: str, level: int, split: str, seen: set[str]
) -> tuple[str, str, str, str, str, str]:
    for _ in range(_TRIES):
        question, steps, answer = _FAMILIES[family](rng, level)
        digest = hashlib.blake2b(question.encode(), digest_size=10).hexdigest()
        if question not in seen and int(digest, 16) % 10 in SPLITS[split]:
            seen.add(question)
            text = f"{' '.join(map(str, steps))}\n#### {answer}" if steps else f"#### {answer}"
            return f"{family}-{digest}", question, text, str(answer), family, str(level)
    raise ValueError(f"{family} of level {level} has too few different questions in split {split!r}")
