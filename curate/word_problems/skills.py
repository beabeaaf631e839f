"""Seeded rows of skills for a positive control, in which rare skills are known and learnable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.seeds import derive_seed

SYMBOLS = "abcdefgh"
LENGTH = 6  # symbols in a row
_NAMES = (
    *("amber", "birch", "coral", "delta", "ember", "fjord", "grape", "heron", "inlet", "jaspe", "koala", "lemon"),
    *("maple", "north", "onyx", "pearl", "quartz", "raven", "slate", "tulip", "umber", "violet", "willow", "zebra"),
)
_EACH = 4  # number of frequent skills, and of rare ones


@dataclass(frozen=True)
class Skills:
    """A task of four frequent and four rare skills.

    A skill is a name and a substitution of eight symbols. A row asks to substitute six symbols, "coral : c d a e d h",
    and its answer is "b h d g h e". Names and substitutions are drawn from `seed`.
    share: of all rare skills together in the training rows.
    """

    seed: int
    share: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the skills, frequent ones first."""
        generator = np.random.default_rng(derive_seed(self.seed, "skills", "names"))
        return tuple(_NAMES[i] for i in generator.choice(len(_NAMES), 2 * _EACH, replace=False))

    @property
    def frequent(self) -> tuple[str, ...]:
        return self.names[:_EACH]

    @property
    def rare(self) -> tuple[str, ...]:
        return self.names[_EACH:]

    @property
    def mixture(self) -> dict[str, float]:
        """Skill -> share of the training rows."""
        frequent = dict.fromkeys(self.frequent, (1 - self.share) / _EACH)
        return frequent | dict.fromkeys(self.rare, self.share / _EACH)

    def rows(self, counts: Mapping[str, int], part: str, apart: Sequence[pa.Table] = ()) -> pa.Table:
        """`counts` different rows of each skill, in random order; none of them is in a table of `apart`.

        part: names the random stream, and starts the ids. Columns: id, prompt, completion, source (skill), all strings.
        """
        excluded = {prompt for table in apart for prompt in table["prompt"].to_pylist()}
        rows: list[tuple[str, str, str]] = []
        for skill, count in counts.items():
            rows += self._of(skill, count, part, excluded)
        generator = np.random.default_rng(derive_seed(self.seed, "skills", "order", part))
        rows = [rows[i] for i in generator.permutation(len(rows))]
        columns = [[f"{part}-{i:05d}" for i in range(len(rows))], *([row[k] for row in rows] for k in range(3))]
        names = ("id", "prompt", "completion", "source")
        return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})

    def _of(self, skill: str, count: int, part: str, excluded: set[str]) -> list[tuple[str, str, str]]:
        """(prompt, completion, skill) of `count` new rows of a skill; adds their prompts to `excluded`."""
        substitution = np.random.default_rng(derive_seed(self.seed, "skills", "substitution", skill)).permutation(
            len(SYMBOLS)
        )  # (8,)
        generator = np.random.default_rng(derive_seed(self.seed, "skills", "rows", part, skill))
        rows = list[tuple[str, str, str]]()
        while len(rows) < count:
            symbols = generator.integers(0, len(SYMBOLS), LENGTH)  # (6,)
            prompt = f"{skill} : {_spelled(symbols)}"
            if prompt not in excluded:
                excluded.add(prompt)
                rows.append((prompt, _spelled(substitution[symbols]), skill))
        return rows


def counts_of(mixture: Mapping[str, float], rows: int) -> dict[str, int]:
    """Divide `rows` by the mixture, exactly up to rounding."""
    bounds = np.round(np.cumsum([0.0, *mixture.values()]) / sum(mixture.values()) * rows).astype(int)
    return dict(zip(mixture, np.diff(bounds).tolist(), strict=True))


def _spelled(symbols: np.ndarray) -> str:
    return " ".join(SYMBOLS[i] for i in symbols)
