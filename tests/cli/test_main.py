"""The command line: exit statuses, one line per error, clean JSON, nothing written where nothing was done."""

import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import _surroundings, main
from tests.fixtures.models import tiny_model

COMMANDS = ("run", "plan", "score", "synthesize", "gate", "finetune", "evaluate", "compare", "validate", "expo")
COMMANDS += ("weigh", "inspect", "report", "doctor")
TINY = [
    *("--proxy", "scratch", "--set", "proxy.steps=4", "--set", "proxy.checkpoints=2"),
    *("--set", "proxy.batch_size=8", "--set", "proxy.max_length=48"),
]


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong; it is the last."""
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("curate: ")] == lines[-1:]
        return lines[-1]

    @property
    def json(self) -> dict[str, Any]:
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Call = Callable[..., Outcome]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; also what is written past Python's own streams is seen."""

    def run(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capfd.readouterr())

    return run


def _rows(n: int = 40) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {i} plus {i % 7}?", "completion": f"{i} + {i % 7} = {i + i % 7}", "topic": "ab"[i % 2]}
        for i in range(n)
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> (size, time of the last change) of every file below."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the folder that do not depend on when and where they were made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("data", "tables")
        for path in sorted((folder / part).iterdir())
    }


@dataclass(frozen=True)
class Finished:
    data: Path
    cache: Path
    out: Path
    arguments: tuple[str, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One finished run; tests that only look at it share it."""
    folder = tmp_path_factory.mktemp("finished")
    data = _write(folder / "data.jsonl", _rows())
    arguments = (*TINY, "--cache", str(folder / "cache"))
    assert main(["run", str(data), "--out", str(folder / "out"), *arguments]) == 0
    return Finished(data, folder / "cache", folder / "out", arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _write(tmp_path / "data.jsonl", _rows())


@pytest.fixture
def scores(tmp_path: Path, finished: Finished) -> Path:
    """Scores for the rows of `data`, so that a test of anything else needs no proxy."""
    path = tmp_path / "scores.parquet"
    pq.write_table(pq.read_table(finished.out / "tables" / "scores.parquet"), path)
    return path


# --- run ---------------------------------------------------------------------------------------------------------


def test_run_writes_the_folder_and_one_json_object(finished: Finished, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    done = call("run", finished.data, "--out", out, *finished.arguments, "--json")
    assert done.status == 0
    assert done.json["counts"]["input"] == 40
    assert done.json["done_before"] is False
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "data", "report.html", "run.json", "tables"]
    rows = pq.read_table(out / "data")
    assert rows.num_rows == done.json["counts"]["output"] > 40
    assert set(rows.column("prompt").to_pylist()) == {row["prompt"] for row in _rows()}
    # The proxy came from the cache of another run, and the bytes are those of that run.
    assert _contents(out) == _contents(finished.out)


def test_progress_is_plain_lines_on_stderr(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    done = call("run", data, "--out", tmp_path / "out", "--scores", scores)
    assert done.status == 0
    assert any(line.startswith("write: done in") for line in done.err.splitlines())
    assert "shape prompt_completion: prompt=prompt, completion=completion" in done.err
    assert not {"\x1b", "\r"} & set(done.out + done.err)
    assert f"dataset  {tmp_path / 'out' / 'data'}" in done.out


def test_same_inputs_again_have_nothing_to_do(finished: Finished, call: Call) -> None:
    before = _tree(finished.out), _tree(finished.cache)
    again = call("run", finished.data, "--out", finished.out, *finished.arguments, "--json")
    assert again.status == 0
    assert again.json["done_before"] is True
    assert "nothing to do" in again.err
    assert (_tree(finished.out), _tree(finished.cache)) == before


@pytest.mark.parametrize("change", [["--seed", "1"], ["--set", "augmenters.0.times=2"], ["data"]])
def test_other_inputs_need_fresh(change: list[str], data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    out = tmp_path / "out"
    arguments = ["--out", out, "--scores", scores]
    assert call("run", data, *arguments).status == 0
    before = _tree(out)
    if change == ["data"]:  # a column that no model reads is part of the output too
        _write(data, [{**row, "topic": "c"} for row in _rows()])
        change = []
    refused = call("run", data, *arguments, *change)
    assert refused.status == 2
    assert "other inputs" in refused.error
    assert "--fresh" in refused.error
    assert _tree(out) == before
    assert call("run", data, *arguments, *change, "--fresh").status == 0
    assert call("run", data, *arguments, *change, "--json").json["done_before"] is True


def test_changed_files_of_a_local_proxy_are_other_inputs(
    data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.data.readers import read
    from curate.pipeline import Pipeline
    from curate.run_record import inputs_fingerprint

    model = tmp_path / "model"
    tiny_model("llama").save_pretrained(model)
    pipeline = Pipeline.from_recipe("quick", settings=[f"proxy.model={model}"])
    before = inputs_fingerprint(pipeline, read(data), None)
    with (model / "config.json").open("a") as file:
        file.write(" ")
    assert inputs_fingerprint(pipeline, read(data), None) != before


def test_out_that_is_a_file(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused = call("run", data, "--out", out, "--scores", scores)
        assert refused.status == 2
        assert "file" in refused.error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("names", [["notes.txt"], ["data/train.parquet", "README.md"], ["run.json"]])
def test_out_with_files_of_somebody_else_is_refused(
    names: list[str], data: Path, tmp_path: Path, scores: Path, call: Call
) -> None:
    """Also where they look like ours: many a dataset is a README.md beside a folder `data`."""
    out = tmp_path / "out"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("{}")
    before = _tree(out)
    for extra in ([], ["--fresh"]):
        refused = call("run", data, "--out", out, "--scores", scores, *extra)
        assert refused.status == 2
        assert str(out) in refused.error
    assert _tree(out) == before


def test_an_unfinished_run_of_ours_goes_on(
    data: Path, tmp_path: Path, scores: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", data, "--scores", scores, "--out"]
    with monkeypatch.context() as patch:
        patch.setattr("curate.curated.dataset_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call(*arguments, tmp_path / "out").status == 130
    assert not (tmp_path / "out" / "run.json").exists()
    assert call(*arguments, tmp_path / "out").status == 0
    assert call(*arguments, tmp_path / "whole").status == 0
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_an_empty_out_is_used(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    (tmp_path / "out").mkdir()
    assert call("run", data, "--out", tmp_path / "out", "--scores", scores).status == 0


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


# --- score, plan, inspect, report, doctor --------------------------------------------------------------------------


def test_scores_by_file_give_the_same_result_in_any_row_order(finished: Finished, tmp_path: Path, call: Call) -> None:
    """Measuring first and curating later is the same as both at once, and scores are joined by id."""
    path = tmp_path / "scores.parquet"
    scored = call("score", finished.data, "--out", path, *finished.arguments, "--json")
    assert scored.status == 0
    assert scored.json == {"scores": str(path), "rows": 40, "valid": 40}
    arguments = ["run", finished.data, "--scores", path, "--out", tmp_path / "out", *finished.arguments, "--json"]
    assert call(*arguments).status == 0
    assert _contents(tmp_path / "out") == _contents(finished.out)
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(40)), path)
    assert call(*arguments).json["done_before"] is True
    assert call(*arguments, "--fresh").status == 0
    assert _contents(tmp_path / "out") == _contents(finished.out)


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


def test_plan_runs_nothing_and_says_what_is_there(finished: Finished, tmp_path: Path, call: Call) -> None:
    empty = tmp_path / "cache"
    first = call("plan", finished.data, *TINY, "--cache", empty, "--out", tmp_path / "out", "--json")
    assert first.status == 0
    assert first.json["rows_in"] == 40
    assert first.json["rows_out"] is None
    assert {stage["stage"] for stage in first.json["stages"]} >= {"read", "train the proxy", "measure", "write"}
    assert {path.name for path in empty.iterdir()} == {"matrix-rates", "rows"}  # no model, and no loss
    assert not (tmp_path / "out").exists()
    later = call("plan", finished.data, *finished.arguments, "--out", finished.out, "--json")
    record = json.loads((finished.out / "run.json").read_text())
    assert later.json["rows_out"] == record["counts"]["output"]
    assert "nothing to do" in " ".join(later.json["notes"])
    shown = call("plan", finished.data, *finished.arguments)
    assert shown.status == 0
    assert " yes " in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80


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


def test_report_is_written_anew_with_the_same_bytes(finished: Finished, call: Call) -> None:
    before = (finished.out / "report.html").read_bytes()
    (finished.out / "report.html").unlink()
    assert call("report", finished.out, "--json").json == {"report": str(finished.out / "report.html")}
    assert (finished.out / "report.html").read_bytes() == before


@pytest.mark.parametrize("command", ["inspect", "report"])
@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_folders_without_a_finished_run(command: str, content: str | None, tmp_path: Path, call: Call) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    refused = call(command, tmp_path)
    assert refused.status == 2
    assert str(tmp_path) in refused.error


@pytest.mark.slow
def test_doctor(call: Call, tmp_path: Path) -> None:
    done = call("doctor", "--cache", tmp_path / "cache", "--json")
    assert done.status == 0
    findings = {finding["name"]: finding for finding in done.json["findings"]}
    assert findings["tiny run"]["status"] == "good"
    assert findings["torch"]["status"] == "good"
    assert all(finding["remedy"] for finding in findings.values() if finding["status"] == "bad")


@pytest.mark.parametrize("as_json", [False, True])
def test_doctor_fails_where_something_is_bad(
    as_json: bool, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.cli.doctor._tiny_run", lambda: ("bad", "no", "mend it"))
    (tmp_path / "file").write_text("")
    done = call("doctor", "--cache", tmp_path / "file", *(["--json"] if as_json else []))
    assert done.status == 3
    assert "cache, tiny run" in done.error
    if as_json:
        assert done.json["ok"] is False
    else:
        assert "mend it" in done.out


# --- help and spelling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_readable(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call(*([command] if command else []), "--help")
    assert done.status == 0
    assert done.err == ""
    assert max(len(line) for line in done.out.splitlines()) <= 80
    if not command:
        assert all(re.search(rf"^    {name}\s", done.out, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["rnu", "d"], "did you mean 'run'?"),
        (["frobnicate"], "commands are run, plan"),
        (["run", "d", "--outt", "x"], "did you mean --out?"),
        (["run", "d", "--out", "x", "--recipee=quick"], "did you mean --recipe?"),
        (["run", "d", "--rec", "quick", "--out", "x"], "--rec"),
        (["run", "d", "--out", "x", "--zzz"], "curate run --help"),
        (["--json", "run", "d"], "--json"),
        (["run", "d"], "--out"),
        ([], "COMMAND"),
        (["run", "d", "e", "--out", "x"], "e"),
        (["run", "d", "--out", "x", "--limit", "ten"], "--limit"),
        (["run", "d", "--out", "x", "--on-bad-row", "fix"], "--on-bad-row"),
    ],
)
def test_mistyped_arguments(given: list[str], expected: str, call: Call) -> None:
    refused = call(*given)
    assert refused.status == 2
    assert expected in refused.error
    assert len(refused.err.splitlines()) == 1
    if "--json" not in given:
        assert refused.out == ""


# --- errors --------------------------------------------------------------------------------------------------------

_FOREIGN = "scorer: {use: os.system}\nclusterer: {use: KMeans}\n"
_KEY = "scorer: {use: LossTrajectory}\nclusterer: {use: KMeans}\naugmenterz: []\n"


def _with(row: int, **cells: Any) -> list[dict[str, Any]]:
    rows = _rows()
    rows[row] = {**rows[row], **cells}
    return rows


def _without_prompt() -> list[dict[str, Any]]:
    return [{"completion": row["completion"], "topic": row["topic"]} for row in _rows()]


# name -> (content of the file: rows or bytes; further arguments; what the line must hold)
MATRIX: dict[str, tuple[Any, list[str], tuple[str, ...]]] = {
    "missing column": (_without_prompt(), TINY, ("completion, topic", "--columns")),
    "no rows": (b"", TINY, ("data.jsonl", "empty")),
    "no rows in parquet": (pa.table({"prompt": pa.array([], pa.string())}), TINY, ("data.parquet", "no rows")),
    "all rows invalid": (
        [{"prompt": f"word {i}", "completion": ""} for i in range(8)],
        TINY,
        ("all 8 of 8 rows", "no completion text", "'completion'", "--columns"),
    ),
    "null cell": (_with(7, completion=None), TINY, ("row 7", "'completion'", "null", "--on-bad-row drop")),
    "cell that is no string": (
        _with(9, prompt=12),
        TINY,
        ("row 9", "'prompt'", "a number, 12, not text", "--on-bad-row drop"),
    ),
    "repeated ids": (
        [{**row, "name": "same" if i in (3, 5) else str(i)} for i, row in enumerate(_rows())],
        [*TINY, "--columns", "id=name,prompt=prompt,completion=completion"],
        ("'name'", "'same'", "rows 3 and 5"),
    ),
    "reserved column": (_with(0, hard=True), TINY, ("'hard'", "rename")),
    "unknown recipe key": (_rows(), [*TINY, "--recipe", "recipe.yaml"], ("'augmenterz'", "'augmenters'")),
    "foreign code": (_rows(), [*TINY, "--recipe", "foreign.yaml"], ("scorer.use", "'os.system'", "--allow-plugin")),
    "unknown recipe": (_rows(), [*TINY, "--recipe", "quik"], ("'quik'", "'quick'")),
    "recipe that is no YAML": (b"x", [*TINY, "--recipe", "data.jsonl"], ("data.jsonl",)),
    "unknown setting": (_rows(), [*TINY, "--set", "proxy.stepz=5"], ("'stepz'", "'steps'")),
    "setting without value": (_rows(), [*TINY, "--set", "seed"], ("'seed'", "path=value")),
    "setting of a wrong type": (_rows(), [*TINY, "--set", "seed=abc"], ("seed", "abc")),
    "unknown model path": (_rows(), ["--proxy", "./no/such/model"], ("./no/such/model", "--proxy scratch")),
    "data that is not there": (None, TINY, ("data.jsonl", "does not exist")),
    "broken parquet": (b"PAR1 no more", TINY, ("data.parquet", "Parquet")),
    "invalid UTF-8": (b'{"prompt": "a", "completion": "\xff"}\n', TINY, ("line 1", "UTF-8")),
    "not JSON": (b'{"prompt": "a", "completion": "b"}\n{oops\n', TINY, ("line 2", "JSON")),
    "fewer rows than clusters": (_rows(3), [*TINY, "--set", "clusterer.n_clusters=5"], ("3", "5", "n_clusters")),
    "diverged training": (_rows(), [*TINY, "--set", "proxy.learning_rate=1e18"], ("step", "diverged-at-step")),
    "--where on no column": (_rows(), [*TINY, "--where", "topik=a"], ("'topik'", "'topic'")),
    "--where without a match": (_rows(), [*TINY, "--where", "topic=z"], ("topic=z", "'a'")),
    "--columns on no column": (_rows(), [*TINY, "--columns", "prompt=promt"], ("'promt'", "'prompt'")),
    "--limit 0": (_rows(), [*TINY, "--limit", "0"], ("limit", "0")),
    "--scores that is no parquet": (_rows(), ["--scores", "recipe.yaml"], ("recipe.yaml", "Parquet")),
    "--scores without difficulty": (_rows(), ["--scores", "other.parquet"], ("'example_id'", "curate score")),
    "--scores for other data": (_rows(), ["--scores", "foreign.parquet"], ("scores", "id")),
    "--scores with valid as text": (_rows(), ["--scores", "valid.parquet"], ("'valid'", "string", "true and false")),
    "--scores with too many tokens": (_rows(), ["--scores", "many.parquet"], ("row 1", "'tokens'", str(2**40))),
    "--scores with negative tokens": (_rows(), ["--scores", "negative.parquet"], ("row 0", "'tokens'", "-1")),
    "--scores with lists as ids": (_rows(), ["--scores", "nested.parquet"], ("'example_id'", "list")),
    "one column in two roles": (_rows(), [*TINY, "--columns", "prompt=topic,completion=topic"], ("both prompt and",)),
    "clusterer as a bare name": (_rows(), [*TINY, "--set", "clusterer=KMeans"], ("clusterer", "{use: KMeans}")),
    "unknown device": (_rows(), [*TINY, "--device", "abacus"], ("'abacus'", "cpu")),
    "--cache that is a file": (_rows(), [*TINY, "--cache", "recipe.yaml"], ("--cache", "recipe.yaml")),
}


@pytest.mark.parametrize("name", MATRIX)
def test_errors_are_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, arguments, expected = MATRIX[name]
    monkeypatch.chdir(tmp_path)
    path = Path("data.parquet" if "parquet" in name and "--scores" not in name else "data.jsonl")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif content is not None:
        _write(path, content)
    Path("recipe.yaml").write_text(_KEY)
    Path("foreign.yaml").write_text(_FOREIGN)
    pq.write_table(pa.table({"a": [1]}), "other.parquet")
    pq.write_table(pa.table({"example_id": ["x"], "difficulty": [1.0]}), "foreign.parquet")
    pq.write_table(pa.table({"example_id": [["x"]], "difficulty": [1.0]}), "nested.parquet")
    for file, column in (("valid", ["yes", "no"]), ("many", [1, 2**40]), ("negative", [-1, 1])):
        name = "valid" if file == "valid" else "tokens"
        pq.write_table(pa.table({"example_id": ["x", "y"], "difficulty": [1.0, 2.0], name: column}), f"{file}.parquet")
    before = {entry.name for entry in Path().iterdir()}
    refused = call("run", path, "--out", "out", *arguments, "--json")
    assert refused.status == 2, refused.err
    for words in expected:
        assert words in refused.error
    assert refused.error == f"curate: {refused.json['error']}"
    assert refused.json["status"] == 2
    assert {entry.name for entry in Path().iterdir()} == before


def test_rows_that_broke_the_training_are_saved(data: Path, tmp_path: Path, call: Call) -> None:
    refused = call(
        "run", data, "--out", tmp_path / "out", *TINY, "--set", "proxy.learning_rate=1e18", "--cache", tmp_path
    )
    (saved,) = tmp_path.rglob("diverged-at-step-*.json")
    assert str(saved) in refused.error
    from curate.data.readers import read

    ids = json.loads(saved.read_text())["example_ids"]
    assert ids
    assert set(ids) <= set(read(data).examples.ids.to_pylist())


def test_default_proxy_without_a_hub(data: Path, tmp_path: Path, call: Call) -> None:
    refused = call("run", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert refused.status == 3
    assert "--proxy scratch" in refused.error
    assert not (tmp_path / "out").exists()


def test_faults_of_our_own_are_one_line_too(
    data: Path, tmp_path: Path, scores: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.curated.count_rows", lambda *_: 1 // 0)
    done = call("run", data, "--out", tmp_path / "out", "--scores", scores, "--json")
    assert done.status == 1
    assert "ZeroDivisionError" in done.error
    assert "CURATE_DEBUG" in done.json["error"]


def test_json_stays_clean_when_a_plug_in_prints(
    data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty.py").write_text(
        "import numpy as np\n"
        "class Chatty:\n"
        "    def score(self, examples, run):\n"
        "        print('hello from a plug-in')\n"
        "        return np.arange(len(examples), dtype=float)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "r.yaml").write_text("scorer: {use: chatty.Chatty}\nclusterer: {use: KMeans}\n")
    arguments = ["run", data, "--out", tmp_path / "out", "--recipe", tmp_path / "r.yaml"]
    assert "--allow-plugin chatty" in call(*arguments).error
    done = call(*arguments, "--allow-plugin", "chatty", "--json")
    assert done.status == 0
    assert done.json["counts"]["output"] == 40
    assert "hello from a plug-in" in done.err


# --- hostile and outsized rows ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_outsized_rows_are_tolerated_and_counted(tmp_path: Path, call: Call) -> None:
    rows = _with(3, completion="x" * 10_000_000)
    rows[4]["completion"] = "word " * 5_000
    rows[5]["prompt"] = "word " * 5_000  # of which only the end is read
    path = _write(tmp_path / "d.jsonl", rows)
    done = call("run", path, "--out", tmp_path / "out", *TINY, "--cache", tmp_path / "cache", "--json")
    assert done.status == 0
    assert done.json["counts"]["invalid"] == 0
    assert done.json["counts"]["original"] == 40
    scores = pq.read_table(tmp_path / "out" / "tables" / "scores.parquet").to_pylist()
    assert [bool(row["completion_cut"]) for row in scores[3:6]] == [True, True, False]
    assert [bool(row["prompt_cut"]) for row in scores[3:6]] == [False, False, True]
    proxy = json.loads((tmp_path / "out" / "run.json").read_text())["proxy"]
    assert {name: proxy[name] for name in ("max_length", "prompts_cut", "completions_cut")} == {
        "max_length": 48,
        "prompts_cut": 1,
        "completions_cut": 2,
    }
    written = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert {len(row["completion"]) for row in written} >= {10_000_000, 25_000}
    kept = next(row for row in written if row["prompt"] == rows[5]["prompt"])
    assert kept["difficulty"] is not None
    assert len(call("inspect", tmp_path / "out", "--examples", "40").out) < 100_000


HOSTILE = (
    "\x1b[31mred\x1b]0;owned\x07 \x9b2J <script>alert(1)</script> [bold]markup[/bold] javascript:alert(1) \u202eevil"
)


def test_no_command_lets_data_act_on_the_terminal(tmp_path: Path, call: Call) -> None:
    rows = [
        {**row, "prompt": f"{HOSTILE} {i}", f"note{HOSTILE}": HOSTILE, "kind": HOSTILE if i % 2 else "plain"}
        for i, row in enumerate(_rows())
    ]
    path = _write(tmp_path / "d.jsonl", rows)
    hard = np.arange(40) % 4 == 0
    scores = tmp_path / "s.parquet"
    from curate.data.readers import read

    ids = read(path).examples.ids
    pq.write_table(pa.table({"example_id": ids, "difficulty": np.where(hard, 9.0, 1.0)}), scores)
    columns = ["--columns", "prompt=prompt,completion=completion,source=kind"]
    given = [path, "--scores", scores, *columns]
    shown = [
        call("plan", *given),
        call("run", *given, "--out", tmp_path / "out"),
        call("run", *given, "--out", tmp_path / "out", "--json"),
        call("inspect", tmp_path / "out"),
        call("inspect", tmp_path / "out", "--json"),
        call("report", tmp_path / "out"),
        call("run", *given, "--out", tmp_path / "o2", "--where", f"kind={HOSTILE}x"),
        call("run", *given, "--out", tmp_path / "o2", "--where", f"{HOSTILE}=x"),
        call("run", path, "--columns", "id=kind,prompt=prompt,completion=completion", "--out", tmp_path / "o2"),
    ]
    assert [each.status for each in shown] == [0, 0, 0, 0, 0, 0, 2, 2, 2]
    for each in shown:
        acting = {c for c in each.out + each.err if ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e"}
        assert acting <= {"\n"}
    assert "[bold]markup[/bold]" in shown[3].out
    assert HOSTILE in {row["kind"] for row in pq.read_table(tmp_path / "out" / "data").to_pylist()}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page + (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_libraries_log_cannot_act_on_the_terminal() -> None:
    early, late, shown = logging.getLogger("a.library"), logging.getLogger("another.library"), io.StringIO()
    handlers = [logging.StreamHandler(shown), logging.StreamHandler(shown)]
    early.addHandler(handlers[0])
    before = logging.getLogRecordFactory()
    try:
        with _surroundings(as_json=True):
            late.addHandler(handlers[1])
            early.warning("a model of type %s, %r", "\x08\x9b2J", {"a": 1})
            try:
                raise ValueError("\x1b[31mred")
            except ValueError:
                late.exception("failed: \u202e")
    finally:
        early.removeHandler(handlers[0])
        late.removeHandler(handlers[1])
    assert logging.getLogRecordFactory() is before
    lines = shown.getvalue().splitlines()
    assert lines[0] == "a model of type ␈⟨U+009B⟩2J, {'a': 1}"
    assert lines[1] == "failed: ⟨U+202E⟩"
    assert lines[-1] == "ValueError: ␛[31mred"


# --- as a process --------------------------------------------------------------------------------------------------


def _process(*arguments: str | Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "curate"]
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def test_import_and_help_are_light() -> None:
    loaded = "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'sklearn'} & set(sys.modules)))"
    assert _process(code=f"import sys, curate; {loaded}").stdout == "[]\n"
    done = _process(code=f"import sys, curate.cli.main; curate.cli.main.main(['run', '--help']); {loaded}")
    assert done.stdout.endswith("\n[]\n")
    started = time.monotonic()
    assert _process("--help").returncode == 0
    assert time.monotonic() - started < 10  # loosely: machines that test are busy


def test_exit_status_of_the_process(tmp_path: Path) -> None:
    done = _process("run", tmp_path / "absent.jsonl", "--out", tmp_path / "out", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["status"] == 2
    script = Path(sys.executable).with_name("curate")
    if script.exists():
        assert subprocess.run([script, "rnu"], capture_output=True, check=False).returncode == 2
        assert subprocess.run([script, "--version"], capture_output=True, check=False).returncode == 0


def test_a_closed_pipe_is_no_fault(finished: Finished) -> None:
    command = f"{sys.executable} -m curate inspect {finished.out} --examples 20; echo status $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 1 > /dev/null"], capture_output=True, text=True, check=False
    )
    assert done.stderr == "status 0\n"


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_stop_a_run_that_can_go_on(sent: signal.Signals, status: int, data: Path, tmp_path: Path) -> None:
    arguments = ["run", data, "--out", tmp_path / "out", *TINY, "--cache", tmp_path / "cache", "--json"]
    long = [*map(str, arguments), "--set", "proxy.steps=100000"]
    # A test run that was started in the background ignores interrupts, and its children would too.
    code = "import signal, sys; signal.signal(2, signal.default_int_handler); import curate.cli.main as cli; "
    with subprocess.Popen(
        [sys.executable, "-c", code + "sys.exit(cli.main())", *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("tokenise: done"):
                break
        time.sleep(0.5)
        os.kill(process.pid, sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert json.loads(out)["status"] == status
    assert err.splitlines()[-1].startswith("curate: ")
    assert not (tmp_path / "out").exists()
