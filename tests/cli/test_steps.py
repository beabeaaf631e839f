"""Rows and scores that options name, in every command alike."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.fixtures.commands import TINY, Call, Finished, _rows, _write, contents


def test_where_limit_seed_and_bad_rows(tmp_path: Path, call: Call) -> None:
    rows = _rows()
    rows[5]["completion"] = None
    path = _write(tmp_path / "d.jsonl", rows)
    given = [path, *TINY, "--where", "topic=b", "--on-bad-row", "drop", "--json"]
    assert "1 unusable rows left out" in call("plan", *given).err
    assert call("plan", *given).json["rows_in"] == 19
    assert call("plan", *given, "--where", "topic=a").json["rows_in"] == 20
    assert call("plan", *given, "--limit", "10").json["rows_in"] == 10
    one, two, other = (
        pq.read_table(_scored(call, tmp_path / f"{k}.parquet", *given, "--limit", "10", "--seed", seed))
        for k, seed in enumerate(("3", "3", "4"))
    )
    assert one.equals(two)
    assert not one.column("example_id").equals(other.column("example_id"))


def _scored(call: Call, out: Path, *arguments: str | Path) -> Path:
    assert call("score", *arguments, "--out", out).json["rows"] == 10
    return out


def test_scores_by_file_give_the_same_result_in_any_row_order(finished: Finished, tmp_path: Path, call: Call) -> None:
    """Measuring first and curating later is the same as both at once, and scores are joined by id."""
    path = tmp_path / "scores.parquet"
    scored = call("score", finished.data, "--out", path, *finished.arguments, "--json")
    assert scored.status == 0
    assert scored.json == {"scores": str(path), "rows": 40, "valid": 40}
    arguments = ["run", finished.data, "--scores", path, "--out", tmp_path / "out", *finished.arguments, "--json"]
    assert call(*arguments).status == 0
    assert contents(tmp_path / "out") == contents(finished.out)
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(40)), path)
    assert call(*arguments).json["done_before"] is True
    assert call(*arguments, "--fresh").status == 0
    assert contents(tmp_path / "out") == contents(finished.out)
