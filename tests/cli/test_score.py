"""`curate score`: a file of scores for `curate run`, and the command that takes it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.commands import Call, Finished


def test_score_replaces_scores_but_nothing_else(finished: Finished, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "s.parquet"
    arguments = ["score", finished.data, "--out", path, *finished.arguments]
    pq.write_table(pa.table({"mine": [1]}), path)
    refused = call(*arguments)
    assert refused.status == 2
    assert "something other than scores" in refused.error
    assert pq.read_table(path).column_names == ["mine"]
    path.unlink()
    assert call(*arguments).status == 0
    first = path.read_bytes()
    assert call(*arguments).status == 0
    assert path.read_bytes() == first
    for wrong, words in ((tmp_path, "is a folder"), (finished.data / "x.parquet", "is a file")):
        refused = call("score", finished.data, "--out", wrong, *finished.arguments)
        assert refused.status == 2
        assert words in refused.error


@pytest.mark.parametrize("command", ["plan", "score"])
def test_an_evaluation_set_that_cannot_be_read_is_refused_whatever_the_recipe(
    command: str, finished: Finished, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "out.parquet"
    refused = call(
        command, finished.data, *finished.arguments, "--evaluation", tmp_path / "nowhere.jsonl", "--out", out
    )
    assert refused.status == 2
    assert "nowhere.jsonl does not exist" in refused.error
    assert not out.exists()


def test_the_command_after_scoring_names_the_evaluation_sets(finished: Finished, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "s.parquet"
    done = call("score", finished.data, *finished.arguments, "--evaluation", finished.data, "--out", out)
    assert f"--evaluation={finished.data}" in done.out
