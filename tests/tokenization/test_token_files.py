"""Tokens in files: the same numbers, made once, wherever they lie."""

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
from curate.tokenization.token_files import open_tokens, write_tokens
from curate.tokenization.tokens import Tokens
from scorers import LossTrajectory
from tests.fixtures.pipelines import _contract_table

pytestmark = pytest.mark.usefixtures("tiny_scratch")


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
