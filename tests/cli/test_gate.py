"""`curate gate`: what it prints and writes, and which mistakes it names."""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.gate import add_arguments
from curate.cli.gate import command as gate
from curate.errors import InputError
from tests.fixtures.chats import ODD_TEXT, write_odd_chats
from tests.fixtures.texts import OTHER, STORY, evaluation

# -- the command ------------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_arguments(parser)
    return gate(parser.parse_args(arguments))


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [STORY, OTHER, STORY.replace("brother", "sister"), None, "Something else \x1b[31m entirely", OTHER]
    pq.write_table(pa.table({"question": rows, "answer": ["1"] * 6, "n": range(6)}), tmp_path / "data.parquet")
    return str(tmp_path / "data.parquet")


def test_the_command(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, clean = tmp_path / "hits.parquet", tmp_path / "clean.parquet"
    held_out = evaluation([OTHER], tmp_path)
    result = run_command(data, "--evaluation", held_out, "--out", str(out), "--clean", str(clean))
    assert (result["rows"], result["without_text"], result["rows_with_hits"], result["rows_clean"]) == (5, 1, 3, 2)
    assert {"kind": "evaluation exact", "dataset": "held_out.parquet", "rows": 2} in result["hits"]
    table = pq.read_table(out)
    near_rows = [row for row in table.to_pylist() if row["kind"] == "near-duplicate of new"]
    (row,) = near_rows
    assert (row["row"], row["dataset"]) == (2, "new")
    assert 0.7 <= row["score"] < 1
    first = table["example_id"].to_pylist()[0]
    assert row["matched_id"] != first
    assert table["matched_text"].drop_null().to_pylist()
    assert pq.read_table(clean).to_pydict() == {
        "question": [STORY, "Something else \x1b[31m entirely"],
        "answer": ["1"] * 2,
        "n": [0, 4],
    }
    shown = capsys.readouterr().out
    assert "3 of 5 rows hit something" in shown
    assert "near-duplicate of new" in shown
    assert "\x1b" not in shown


def test_the_command_against_another_dataset(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = evaluation([STORY, OTHER], tmp_path, "other")
    source = json.dumps({"data": other, "where": "id=other/1", "name": "the others"})
    result = run_command(data, "--against", source, "--json")
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(result)) == result
    assert {"kind": "near-duplicate of source", "dataset": "the others", "rows": 2} in result["hits"]
    assert run_command(data, "--near-duplicate", "0.99", "--json")["rows_with_hits"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--near-duplicate", "off"], "nothing to look for"),
        (["--near-duplicate", "much"], "--near-duplicate much: give a share"),
        (["--near-duplicate", "1.5"], "--near-duplicate: Input should be less than or equal to 1"),
        (["--ngrams", "8,x"], "--ngrams: .*integer"),
        (["--ngrams", "1"], "--ngrams: .*greater than or equal to 2"),
        (["--against", "{where: x}"], "names no data"),
        (["--evaluation", "{data: [}"], "not readable as plain YAML"),
        (["--evaluation", "{data: a.parquet, limits: 3}"], "--evaluation: .*must have data, and else only"),
        (["--against", "{data: DATA, limits: 3}"], "reading option 'limits'"),
        (["--out", "hits.csv"], "ends in .parquet"),
        (["--out", "a.parquet", "--clean", "a.parquet"], "name two files"),
        (["--near-duplicate", "off", "--evaluation", "DATA", "--against", "DATA"], "leave one of them out"),
    ],
)
def test_mistakes_in_the_command(arguments: list[str], message: str, data: str) -> None:
    with pytest.raises(InputError, match=message):
        run_command(data, "--json", *(each.replace("DATA", data) for each in arguments))


def test_results_never_take_the_place_of_what_is_read(data: str, tmp_path: Path) -> None:
    other = Path(evaluation([OTHER], tmp_path, "other"))
    folder = tmp_path / "folder"
    folder.mkdir()
    inside = Path(evaluation([STORY], folder, "inside"))
    linked, symbolic = tmp_path / "linked.parquet", tmp_path / "symbolic.parquet"
    linked.hardlink_to(data)
    symbolic.symlink_to(other)
    roundabout = f"{folder}/../{Path(data).name}"
    others = ["--against", json.dumps({"data": str(other)}), "--evaluation", str(folder), "--json"]
    before = {path: path.read_bytes() for path in (Path(data), other, inside)}
    wrong = [(data, "DATA"), (roundabout, "DATA"), (linked, "DATA"), (symbolic, "--against"), (inside, "--evaluation")]
    for option in ("--out", "--clean"):
        for path, role in wrong:
            with pytest.raises(InputError, match=f"{option} .* would overwrite what {role} reads; name another file"):
                run_command(data, option, str(path), *others)
    with pytest.raises(InputError, match="name two files"):
        run_command(data, "--out", f"{tmp_path}/a.parquet", "--clean", f"{folder}/../a.parquet", *others)
    assert {path: path.read_bytes() for path in before} == before
    for _ in range(2):  # a result of an earlier time may be replaced
        run_command(data, "--clean", str(tmp_path / "clean.parquet"), *others)


def test_both_datasets_are_read_by_every_option_of_reading(tmp_path: Path) -> None:
    data, other = (tmp_path / name for name in ("data", "other"))
    data.mkdir()
    other.mkdir()
    path, against = write_odd_chats(data, [STORY, OTHER]), write_odd_chats(other, [OTHER])
    options = ["--encoding", "cp1252", "--role", "robot=assistant", "--role", "visitor=user"]
    options += ["--columns", "messages=talk,role=who,content=said"]
    result = run_command(str(path), *options, "--against", f"{{data: {against}, {ODD_TEXT}}}", "--json")
    assert (result["rows"], result["rows_with_hits"]) == (2, 1)
    with pytest.raises(InputError, match=r"--against: .*encoding cp1252.*written \{data: FILE, encoding: NAME\}"):
        run_command(str(path), *options, "--against", str(against), "--json")
