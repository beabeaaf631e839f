"""`curate init`: a recipe for the data, which is the default one where nothing speaks against it."""

import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import Pipeline
from curate.data.readers import read
from curate.word_problems.table import generate
from tests.fixtures.commands import Call, _rows, _write


def test_the_recipe_is_the_default_with_the_proxy_that_is_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "rows.jsonl", _rows())
    done = call("init", "rows.jsonl")
    assert done.status == 0
    made = Pipeline.from_recipe("recipe.yaml")
    assert made == Pipeline.from_recipe("quick", settings=["proxy.model=scratch"])
    assert "at least 300 steps" in (tmp_path / "recipe.yaml").read_text()
    assert call("init", "rows.jsonl").status == 2  # never written over
    assert call("init", "rows.jsonl", "--fresh", "--json").json["columns"]["prompt"] == "prompt"


def test_the_commands_that_it_names_read_the_same_rows(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(generate(n=40), tmp_path / "my rows.parquet")
    done = call("init", "my rows.parquet", "--out", "mine.yaml")
    command = next(line for line in done.out.splitlines() if line.startswith("curate plan"))
    assert call(*shlex.split(command)[1:]).status == 0
    words = shlex.split(command)
    columns = words[words.index("--columns") + 1]
    again = read("my rows.parquet", columns=dict(pair.split("=") for pair in columns.split(",")))
    assert again.examples.ids.equals(read("my rows.parquet").examples.ids)
    assert Pipeline.from_recipe("mine.yaml").clusterer.per == "source"  # the data has such a column
