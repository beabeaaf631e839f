"""`curate inspect`: extremes of a finished run, and folders without one."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.report.row_store import RowStore
from curate.storage.records import record_text
from tests.fixtures.commands import Call, Finished, _rows


def test_inspect_shows_the_extremes(finished: Finished, call: Call) -> None:
    found = call("inspect", finished.out, "--json", "--examples", "2").json
    split = pq.read_table(finished.out / "tables" / "split.parquet").to_pandas().sort_values("difficulty")
    assert [row["example_id"] for row in found["easiest"]] == split["example_id"].tolist()[:2]
    assert [row["example_id"] for row in found["hardest"]] == split["example_id"].tolist()[::-1][:2]
    by_id = {row["example_id"]: row for row in pq.read_table(finished.out / "data").to_pylist()}
    for row in found["hardest"]:
        assert row["text"]["prompt"] == by_id[row["example_id"]]["prompt"]
    shown = call("inspect", finished.out)
    assert shown.status == 0
    assert shown.err == ""
    assert found["hardest"][0]["text"]["prompt"] in shown.out
    assert call("inspect", finished.out, "--examples", "-1").status == 2


def test_rows_of_arrow_s_view_types_are_shown(tmp_path: Path, scores: Path, call: Call) -> None:
    """Arrow can neither filter nor take from views."""
    rows, out = pa.Table.from_pylist(_rows()), tmp_path / "out"
    views = {name: rows[name].cast(pa.string_view()) for name in rows.column_names}
    pq.write_table(pa.table(views), tmp_path / "d.parquet")
    assert call("run", tmp_path / "d.parquet", "--out", out, "--scores", scores).status == 0
    assert pq.read_schema(next((out / "data").iterdir())).field("prompt").type == pa.string_view()
    hardest = call("inspect", out, "--json", "--examples", "1").json["hardest"][0]
    ids = pq.read_table(out / "tables" / "split.parquet")["example_id"].to_pylist()
    row = _rows()[ids.index(hardest["example_id"])]
    assert hardest["text"] == {"prompt": row["prompt"], "completion": row["completion"]}


def test_extremes_that_were_left_out_take_one_line(tmp_path: Path, call: Call) -> None:
    table = pa.Table.from_pylist(_rows(40))
    pq.write_table(table, tmp_path / "data.parquet")
    ids = curate.read(table).examples.ids
    pq.write_table(pa.table({"example_id": ids, "difficulty": np.arange(40.0)}), tmp_path / "scores.parquet")
    subset = "augmenters=[{use: Subset, size: 5}]"
    given = ("run", tmp_path / "data.parquet", "--scores", tmp_path / "scores.parquet", "--set", subset)
    assert call(*given, "--out", tmp_path / "out").status == 0
    shown = call("inspect", tmp_path / "out").out
    assert "easiest rows: left out of the result; tables/scores.parquet has" in shown
    assert "difficulty 0.000" not in shown


def test_inspect_without_rows_or_data(finished: Finished, tmp_path: Path, call: Call) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.out, copy)
    shutil.rmtree(copy / "data")
    for out in (finished.out, copy):
        found = call("inspect", out, "--json", "--examples", "0")
        assert found.status == 0
        assert (found.json["easiest"], found.json["hardest"]) == ([], [])
        assert "hardest" not in call("inspect", out, "--examples", "0").out
    for prepare in (
        lambda: None,
        lambda: (copy / "data").mkdir(),
        lambda: (copy / "data" / "x.parquet").write_text("x"),
    ):
        prepare()
        refused = call("inspect", copy)
        assert refused.status == 2
        assert f"{copy}/data/train-" in refused.error
        assert "--examples 0" in refused.error
        assert "--fresh" in refused.error


@pytest.mark.parametrize("command", ["inspect", "report"])
@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_folders_without_a_finished_run(command: str, content: str | None, tmp_path: Path, call: Call) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    refused = call(command, tmp_path)
    assert refused.status == 2
    assert str(tmp_path) in refused.error


def test_inspect_says_whether_copies_help(finished: Finished, tmp_path: Path, call: Call) -> None:
    found = call("inspect", finished.out, "--json").json["forecast"]
    assert found["verdict"]["verdict"] == "not forecast"
    assert found["hard"]["rows"] == call("inspect", finished.out, "--json").json["counts"]["hard"]
    shown = call("inspect", finished.out).out
    assert "Will copies help? not forecast" in shown
    assert "at equal steps" in shown


def test_a_folder_of_an_earlier_version_is_inspected_without(finished: Finished, tmp_path: Path, call: Call) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.out, copy)
    record = json.loads((copy / "run.json").read_text())
    del record["forecast"]
    (copy / "run.json").write_text(record_text(record))
    shown = call("inspect", copy)
    assert (shown.status, "Will copies help?" in shown.out) == (0, False)
    assert call("inspect", copy, "--json").json["forecast"] is None


def test_conversations_are_shown_by_what_is_said_and_not_by_a_prompt_that_all_share(tmp_path: Path, call: Call) -> None:
    chats = [
        [("system", "You are terse."), ("user", f"What is {k} + {k}?"), ("assistant", f"{2 * k}.")] for k in range(40)
    ]
    rows = [{"messages": [{"role": who, "content": said} for who, said in chat]} for chat in chats]
    scores, out = tmp_path / "scores.parquet", tmp_path / "out"
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = curate.read(str(tmp_path / "chats.jsonl")).examples
    pq.write_table(pa.table({"example_id": examples.ids, "difficulty": np.arange(40.0)}), scores)
    assert call("run", tmp_path / "chats.jsonl", "--out", out, "--scores", scores).status == 0
    shown = call("inspect", out, "--examples", "1").out
    assert "[user] What is 39 + 39? [assistant] 78." in shown
    assert "terse" not in shown
    page = (out / "report.html").read_text()
    assert "<bdi>What is 39 + 39?</bdi>" in page
    assert "<bdi>You are terse.</bdi>" not in page
    with closing(RowStore(out, tmp_path)) as store:
        hardest = store.page({}, 1, 5, "difficulty", True)["data"][0]
        assert hardest["cells"][0].startswith("user: What is 39 + 39?")
        assert store.row(hardest["n"])["row"]["cells"][0].startswith("system: You are terse.")
    refused = call("inspect", tmp_path / "chats.jsonl")
    assert refused.status == 2
    assert refused.error.endswith(f"`curate run {tmp_path / 'chats.jsonl'} --out DIR` makes one")
