"""Tokens of a dataset are made once, and `max_length: auto` is the least length that serves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.console.progress import Progress
from curate.data.readers import read
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.storage.cache import Cache
from curate.tokenization.cached import CachedTokens, length_for, truncation_facts
from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import FAMILIES, byte_level


def conversations(n: int = 40) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for k in range(n):
        asked = {"role": "user", "content": f"What is {k} plus {rng.integers(90)}?"}
        answered = {"role": "assistant", "content": f"The answer is {rng.integers(90)}.\n#### {k}"}
        rows.append([asked, answered])
    return pa.table({"messages": rows})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template wants turns to alternate."""
    folder = tmp_path_factory.mktemp("model") / "mistral"
    write_model(folder, byte_level(chat=FAMILIES["mistral"][0]), max_position_embeddings=512)
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_auto_is_the_least_length_at_which_ninety_nine_in_a_hundred_rows_are_whole(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 3000, 700)
    found = length_for(lengths, None)
    assert (lengths <= found).mean() >= 0.99
    assert (lengths <= found - 65).mean() < 0.99
    assert length_for(lengths, 512) == 512
    assert length_for(np.array([5, 6, 7]), None) == 8


def test_auto_is_resolved_in_the_key_of_the_run_and_known_again(model: Path, tmp_path: Path) -> None:
    examples = read(conversations()).examples
    run = Run(cache=tmp_path / "cache")

    def proxy_run(length: Any) -> ProxyTraining:
        return ProxyTraining(examples, Proxy(model=str(model), max_length=length, steps=2, checkpoints=2), run.context)

    auto = proxy_run("auto")
    assert auto.max_length == 48
    assert auto.key == proxy_run(48).key != proxy_run(49).key
    assert not auto.tokenized.rows.truncated.any()
    assert proxy_run("auto").max_length == 48


def test_plan_and_run_tell_what_auto_comes_to(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(conversations(), path)
    words = [str(path), "--proxy", str(model), "--set", "proxy.steps=2", "--set", "proxy.checkpoints=2"]
    words += ["--set", "proxy.max_length=auto", "--cache", str(tmp_path / "cache")]
    assert main(["plan", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_length"] == 48
    assert main(["plan", *words]) == 0
    assert "max_length auto: 48 tokens" in " ".join(capsys.readouterr().out.split())
    assert main(["run", *words, "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["proxy"]["max_length"] == 48
    assert record["recipe"]["proxy"]["max_length"] == "auto"
    tuned = ["finetune", str(path), "--model", str(model), "--out", str(tmp_path / "tuned"), "--steps", "1"]
    assert main([*tuned, "--max-length", "auto"]) == 0
    assert json.loads((tmp_path / "tuned" / "run.json").read_text())["max_length"] == 48


def test_what_is_known_of_rows_is_read_from_the_cache_without_a_tokenizer(tmp_path: Path) -> None:
    table = conversations().to_pylist()
    table[17]["messages"].insert(0, table[17]["messages"][0])  # two questions in a row
    examples = read(pa.Table.from_pylist(table)).examples
    calls: list[int] = []

    def tokenizer() -> Any:
        calls.append(1)
        return byte_level(chat=FAMILIES["mistral"][0])

    def cached() -> CachedTokens:
        return CachedTokens(examples, tokenizer, "chat", 40, Cache(tmp_path), "key", Progress("none"))

    first = cached()
    assert not first.known
    assert first.rows.valid.tolist() == first.tokens.valid.tolist()
    again = cached()
    assert again.known
    for name in ("valid", "tokens", "lengths", "prompt_cut", "completion_cut", "truncated"):
        np.testing.assert_array_equal(getattr(again.rows, name), getattr(first.rows, name))
    assert list(again.rows.refused) == [17]
    assert again.rows.refused == first.refused
    assert calls == [1]
    assert truncation_facts(again.rows) == truncation_facts(first.tokens)
    assert truncation_facts(again.rows)["rows_truncated"] == int(first.tokens.truncated.sum()) > 0
