"""Rows of the families symbols and text: a skill is a substitution of eight symbols; frequent skills and rare ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from benchmarks.when.settings import Setting
from curate.seeds import derive_seed

FREQUENT = ("coral", "maple", "onyx", "tulip")
RARE = ("amber", "fjord", "heron", "quartz")
SKILLS = (*FREQUENT, *RARE)
UNLEARNABLE = "wander"  # the name of a kind of row whose completions follow from nothing
SYMBOLS = "abcdefgh"


def mixture_of(share: float) -> dict[str, float]:
    """Skill -> share of the clean rows; `share` is that of the rare skills together."""
    frequent = dict.fromkeys(FREQUENT, (1 - share) / len(FREQUENT))
    return frequent | dict.fromkeys(RARE, share / len(RARE))


def training_rows(setting: Setting, length: int, seed: int) -> pa.Table:
    """The rows of a setting in random order, with the columns of `benchmarks.when.family`; faults as it wants them."""
    kinds = round(setting.unlearnable * setting.rows)
    rows = drawn(mixture_of(setting.share), setting.rows - kinds, length, seed, "train")
    rows = pa.concat_tables([rows, _unlearnable(kinds, length, seed)])
    generator = np.random.default_rng(derive_seed(seed, "when", "faults"))
    rows = rows.take(pa.array(generator.permutation(len(rows))))
    rows = rows.set_column(0, "id", pa.array([f"r{i:05d}" for i in range(len(rows))]))
    clean = np.flatnonzero(np.array(rows["fault"].to_pylist()) == "")
    wrong = generator.choice(clean, round(setting.noise * setting.rows), replace=False)
    return shuffled(rows, wrong, generator)


def shuffled(rows: pa.Table, wrong: np.ndarray, generator: np.random.Generator) -> pa.Table:
    """`rows` with the completions at the positions `wrong` (m,) moved around among each other, none staying."""
    answers, faults = rows["answer"].to_pylist(), rows["fault"].to_pylist()
    circle = generator.permutation(wrong).tolist()
    moved = [answers[i] for i in circle]
    for place, answer in zip(circle[1:] + circle[:1], moved, strict=True):
        answers[place], faults[place] = answer, "shuffled"
    for name, values in (("answer", answers), ("fault", faults)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
    return rows


def drawn(mixture: Mapping[str, float], count: int, length: int, seed: int, part: str) -> pa.Table:
    """`count` clean rows of `length` symbols, one skill after the other. part: names the draw."""
    bounds = np.round(np.cumsum([0.0, *mixture.values()]) / sum(mixture.values()) * count).astype(int)
    rows = []
    for skill, number in zip(mixture, np.diff(bounds).tolist(), strict=True):
        generator = np.random.default_rng(derive_seed(seed, "when", "skill", skill))
        substitution = generator.permutation(len(SYMBOLS))  # (8,)
        generator = np.random.default_rng(derive_seed(seed, "when", "rows", part, skill))
        questions = generator.integers(0, len(SYMBOLS), (number, length))
        rows += [_row(skill, ask, answer) for ask, answer in zip(questions, substitution[questions], strict=True)]
    return _table(rows)


def _unlearnable(count: int, length: int, seed: int) -> pa.Table:
    generator = np.random.default_rng(derive_seed(seed, "when", "unlearnable"))
    texts = generator.integers(0, len(SYMBOLS), (count, 2, length))
    return _table([_row(UNLEARNABLE, ask, answer, "unlearnable") for ask, answer in texts])


def _row(skill: str, question: np.ndarray, answer: np.ndarray, fault: str = "") -> tuple[str, str, str, str, bool, str]:
    question_text, answer_text = (" ".join(SYMBOLS[i] for i in each) for each in (question, answer))
    return f"{skill} : {question_text}", answer_text, skill, skill, skill in RARE, fault


def _table(rows: list[tuple[str, str, str, str, bool, str]]) -> pa.Table:
    names = ("question", "answer", "source", "group", "rare", "fault")
    types = (pa.string(), pa.string(), pa.string(), pa.string(), pa.bool_(), pa.string())
    columns = [[row[k] for row in rows] for k in range(len(names))]
    arrays = [pa.array([f"t{i:05d}" for i in range(len(rows))], pa.string())]
    arrays += [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.table(dict(zip(("id", *names), arrays, strict=True)))
