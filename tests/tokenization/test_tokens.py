"""Flat token arrays behave like a list of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.data.readers import read
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.tokenization import cached, encoding
from curate.tokenization.tokens import Tokens, open_tokens, write_tokens
from scorers import LossTrajectory
from tests.fixtures.pipelines import _contract_table
from tests.fixtures.tokens import equal_tokens, row_of

pytestmark = pytest.mark.usefixtures("tiny_scratch")


def random_rows(seed: int, n: int = 40) -> Tokens:
    """Rows of 0 to 9 tokens, so that empty rows stand at the beginning, the end and side by side."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 10, n)
    lengths[[0, 1, 17, 18, n - 1]] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(0, 1000, offsets[-1]).astype(np.int32)
    return Tokens(
        ids, rng.random(len(ids)) < 0.5, offsets, rng.random(n) < 0.7, *rng.integers(0, 3, (2, n)).astype(np.int32)
    )


def as_rows(tokens: Tokens) -> list[tuple[Any, ...]]:
    cuts = (tokens.prompt_cut, tokens.completion_cut)
    return [(*row_of(tokens, k), tokens.valid[k], *(cut[k] for cut in cuts)) for k in range(len(tokens))]


@pytest.mark.parametrize("seed", range(5))
def test_tokens_agree_with_a_list_of_rows(seed: int) -> None:
    tokens = random_rows(seed)
    rows = as_rows(tokens)
    rng = np.random.default_rng(seed)
    assert tokens.lengths.tolist() == [len(ids) for ids, *_ in rows]
    assert tokens.completion_tokens.tolist() == [sum(supervised) for _, supervised, *_ in rows]
    for chosen in (rng.integers(0, 40, 60), rng.permutation(40), np.array([3]), np.array([], np.int64)):
        taken = tokens.take(chosen)
        assert as_rows(taken) == [rows[k] for k in chosen]
        assert taken.completion_tokens.tolist() == [sum(rows[k][1]) for k in chosen]
    for low, high in ((0, 40), (0, 0), (40, 40), (5, 6), (17, 19), (2, 31)):
        piece = tokens.slice(low, high)
        assert as_rows(piece) == rows[low:high]
        assert piece.completion_tokens.tolist() == [sum(supervised) for _, supervised, *_ in rows[low:high]]
        assert equal_tokens(piece, tokens.take(np.arange(low, high)))
        assert as_rows(piece.take(np.arange(high - low)[::-1])) == rows[low:high][::-1]


def test_a_slice_shares_memory_and_types_stay() -> None:
    tokens = random_rows(9)
    assert np.shares_memory(tokens.slice(5, 30).ids, tokens.ids)
    for each in (tokens, tokens.slice(3, 9), tokens.take(np.array([4, 4, 2]))):
        assert (each.ids.dtype, each.supervised.dtype, each.offsets.dtype) == (np.int32, np.bool_, np.int64)
        assert each.completion_tokens.dtype == np.int32


def assert_same(first: Tokens, second: Tokens) -> None:
    for name in ("ids", "supervised", "offsets", "valid", "prompt_cut", "completion_cut", "completion_tokens"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_parts_come_back_end_to_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for rows in (3, 0, 5):
        lengths = rng.integers(0, 4, rows)
        count = int(lengths.sum())
        per_row = (rng.random(rows) < 0.5, *rng.integers(0, 9, (2, rows), dtype=np.int32))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        parts.append(Tokens(rng.integers(0, 99, count, dtype=np.int32), rng.random(count) < 0.5, offsets, *per_row))
    write_tokens(iter(parts), tmp_path)
    assert_same(open_tokens(tmp_path), Tokens.concatenate(parts))


def test_scores_are_the_same_and_tokens_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_ROWS", 16)
    examples, proxy = read(_contract_table()).examples, Proxy(model="scratch", steps=2, checkpoints=2)

    def tokens_and_scores(name: str) -> tuple[Tokens, Any]:
        run = Run(proxy, cache=tmp_path / name)
        tokens = ProxyTraining(examples, proxy, run.context).tokenized.tokens
        return tokens, LossTrajectory().score(examples, run)

    held, wanted = tokens_and_scores("held")
    assert not (tmp_path / "held" / "tokens").exists()
    monkeypatch.setattr(cached, "IN_MEMORY", 100)
    mapped, found = tokens_and_scores("mapped")
    assert_same(mapped, held)
    assert np.array_equal(found.trajectory, wanted.trajectory, equal_nan=True)
    assert len(list((tmp_path / "mapped" / "tokens").iterdir())) == 1
    monkeypatch.setattr(cached, "tokens_in_parts", None)  # which would fail
    assert_same(tokens_and_scores("mapped")[0], held)
