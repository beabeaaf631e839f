"""The texts of problems: levels that length does not give away."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from curate.word_problems.table import LEVELS, generate
from curate.word_problems.wording import _FILLERS, _REMARKS


def tokens(text: str) -> int:
    """Words, single digits and signs: what a tokenizer that keeps digits apart makes of the text."""
    return len(re.findall(r"\d|[A-Za-z]+|[^\sA-Za-z\d]", text))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return generate(4000, seed=3, mixture={1: 1, 2: 1, 3: 1, 4: 1})


def test_filler_holds_no_digit_since_numbers_decide_the_split() -> None:
    assert not re.search(r"\d", " ".join([*_FILLERS, *_REMARKS]))


def test_length_does_not_give_the_level_away() -> None:
    rows = generate(3000).to_pylist()
    hard = [row["level"] >= 3 for row in rows]
    assert 0.5 < roc_auc_score(hard, [tokens(row["answer"]) for row in rows]) < 0.65
    assert 0.35 < roc_auc_score(hard, [len(row["answer"]) for row in rows]) < 0.65


def test_harder_levels_have_more_steps_and_denser_arithmetic(table: pa.Table) -> None:
    level = np.array(table["level"].to_pylist())
    steps = np.array(table["steps"].to_pylist())
    digits = np.array([sum(map(str.isdigit, text)) / tokens(text) for text in table["answer"].to_pylist()])
    for values in (steps, digits):
        means = [values[level == one].mean() for one in LEVELS]
        assert means == sorted(means)
        assert len(set(means)) == len(LEVELS)
    assert roc_auc_score(level >= 3, digits) > 0.8
