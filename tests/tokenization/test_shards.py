"""Tokens that workers make are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.console.progress import Progress
from curate.data.readers import read
from curate.engine import Ray
from curate.engine.protocol import Engine
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.storage.cache import Cache
from curate.tokenization import cached, encoding, shards
from curate.tokenization.cached import CachedTokens, auto_length
from tests.fixtures.ray_cluster import Inline
from tests.fixtures.scored import additions
from tests.fixtures.tokenizers import FAMILIES, byte_level
from tests.tokenization.test_tokens import assert_same


def _chats() -> Any:
    rows = []
    for k in range(50):
        turns = [
            {"role": "user", "content": f"question {k} " * (1 + k % 7)},
            {"role": "assistant", "content": "42" * k},
        ]
        if k in (17, 33):
            turns.insert(0, turns[0])  # two questions in a row, which the template refuses
        rows.append({"messages": turns, "unread": "x" * 1000, "source": f"s{k % 3}"})
    return read(pa.Table.from_pylist(rows)).examples


@pytest.mark.parametrize("held", [True, False])
def test_shards_end_to_end_are_the_tokens_of_all_rows(
    held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, tokenizer = _chats(), byte_level(chat=FAMILIES["mistral"][0])
    monkeypatch.setattr(shards, "SHARD_ROWS", 8)
    monkeypatch.setattr(encoding, "_CHUNK_ROWS", 3)
    if not held:
        monkeypatch.setattr(cached, "IN_MEMORY", 100)

    def made(name: str, engine: Any) -> tuple[CachedTokens, int]:
        about: Any = (Cache(tmp_path / name), "key", Progress("none"), "all", engine)
        length = auto_length(examples, lambda: tokenizer, "chat", 300, *about)
        return CachedTokens(examples, lambda: tokenizer, "chat", 40, *about), length

    engine = Inline()
    here, there = made("here", None), made("there", engine)
    assert there[1] == here[1]
    assert_same(there[0].tokens, here[0].tokens)
    assert there[0].refused == here[0].refused
    assert list(there[0].rows.refused) == [17, 33]
    assert engine.stages == [("tokenize", 7), ("tokenize", 7)]
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name / "tokens").rglob("*.bin")}
        for name in ("here", "there")
    ]
    assert files[0] == files[1]
    assert bool(files[0]) is not held


def test_only_what_a_model_reads_is_sent() -> None:
    content = _chats().content()
    assert content.table.column_names == ["messages"]
    assert content.texts("messages", 3, 5) == _chats().texts("messages", 3, 5)
    pairs = read({"chosen": ["a b", "a c"], "rejected": ["a d", "a e"], "prompt": ["a", "a"]}, shape="preference")
    assert pairs.examples.content().answers(0, 2) == pairs.examples.answers(0, 2)


@pytest.mark.slow
@pytest.mark.ray
def test_workers_of_a_cluster_tokenize(ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, proxy = additions(), Proxy(model="scratch", steps=2, checkpoints=2)
    monkeypatch.setattr(shards, "SHARD_ROWS", 8)

    def tokens(name: str, engine: Engine | None) -> Any:
        return ProxyTraining(examples, proxy, Run(proxy, tmp_path / name, engine=engine).context).tokenized.tokens

    before = _tokenized(ray_engine)
    assert_same(tokens("there", ray_engine), tokens("here", None))
    assert _tokenized(ray_engine) == before + len(examples)


def _tokenized(engine: Ray) -> int:
    """Rows that the workers have tokenized, by their record."""
    workers = engine.record().get("workers", [])
    return sum(each["stages"].get("tokenize", {"rows": 0})["rows"] for each in workers)
