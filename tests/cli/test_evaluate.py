"""`curate evaluate`: arguments, what is printed, and exit statuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import read_evaluations
from curate.cli.main import main
from tests import ROOT
from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import CHATML, byte_level

FAST = ("--max-tokens", "4", "--max-length", "128", "--precision", "float32", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("model")
    write_model(place, byte_level(vocabulary=300, chat=CHATML))
    return str(place)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "sums.parquet"
    columns: dict[str, list[Any]] = {
        "question": [f"What is {k} plus 1?" for k in range(8)],
        "answer": [f"It is {k + 1}.\n#### {k + 1}" for k in range(7)] + [None],
        "final_answer": [str(k + 1) for k in range(8)],
        "level": ["easy", "hard"] * 4,
        "split": ["test"] * 6 + ["train"] * 2,
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_it_prints_numbers_by_level_and_writes_a_folder_per_set(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train = f"{{data: {data}, where: split=train, name: train}}"
    command = ["evaluate", model, "--data", f"{{data: {data}, where: split=test}}", "--data", train, *FAST]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for text in ("sums", "level easy", "level hard", "train: 1 rows have no worked solution", f"results -> {out}"):
        assert text in printed.replace("\n", " ")
    found = read_evaluations(out)
    assert sorted(found) == ["sums", "train"]
    assert [found[name].rows.num_rows for name in ("sums", "train")] == [6, 2]
    assert main([*command, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["evaluations"]["sums"] == found["sums"].summary
    assert answer["directory"] == str(out)


def test_no_number_or_its_name_is_cut_in_a_narrow_terminal(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-set-with-a-name-that-is-too-long-for-its-column"
    given = f"{name}={{data: {data}, where: split=test}}"
    assert main(["evaluate", model, "--data", given, *FAST, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "\u2026" not in printed
    assert all(each in printed for each in ("accuracy", "undecided", "cut off", "nats/token", "by row"))


def test_rows_without_any_final_answer_are_told(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"prompt": ["Why?", "How?"], "completion": ["Because of it all.", "By doing it well."]})
    pq.write_table(table, tmp_path / "essays.parquet")
    command = ["evaluate", model, "--data", str(tmp_path / "essays.parquet"), *FAST]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "essays: loss only: there is no final answer and no grader fits; --grader exact" in capsys.readouterr().out
    assert main([*command, "--no-generate", "--out", str(tmp_path / "scored")]) == 0
    assert "no final answer" not in capsys.readouterr().out


def test_columns_of_a_set_are_named_where_they_can_be_given(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command has no option --columns, so none may be advised; what is advised works."""
    file = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"sum": ["1 + 1?", "1 + 2?"], "said": ["It is 2.\n#### 2", "It is 3.\n#### 3"]}), file)
    command = ["evaluate", model, *FAST, "--out", str(tmp_path / "out"), "--data"]
    for given in (str(file), f"{{data: {file}, columns: prompt=quest}}"):
        assert main([*command, given]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "{data: FILE, columns: {prompt: COLUMN, completion: COLUMN}}" in error
        assert "--columns" not in error
    assert main([*command, f"{{data: {file}, columns: {{prompt: sum, completion: said}}}}"]) == 0


def test_parts_shots_and_samples_are_options(model: str, data: Path, tmp_path: Path) -> None:
    test = f"sums={{data: {data}, where: split=test}}"
    shots = ("--shots", "1", "--shots-from", f"{{data: {data}, where: split=train}}")
    for name, options in {
        "scored": ("--no-generate", "--limit", "3", "--style", "chat"),
        "drawn": ("--no-nll", "--samples", "2", "--temperature", "0.7", "--stop", "###", *shots),
    }.items():
        assert main(["evaluate", model, "--data", test, *FAST, *options, "--out", str(tmp_path / name)]) == 0
    scored, drawn = (read_evaluations(tmp_path / name)["sums"] for name in ("scored", "drawn"))
    assert scored.rows.num_rows == 3
    assert scored.summary["accuracy"] is None
    assert drawn.summary["nll"] is None
    assert drawn.summary["settings"]["stop"] == ["Question:", "###"]
    assert {len(each) for each in drawn.rows["completions"].to_pylist()} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "is not a fine-tuning run, so say where results go: --out DIR"),
        (("--out", "OUT", "--samples", "3"), "3 samples of temperature 0 are all the same"),
        (("--out", "OUT", "--no-generate", "--no-nll"), "there is nothing to evaluate"),
        (("--out", "OUT", "--shots", "2"), "name their data with shots_from"),
        (("--out", "OUT", "--data", "other/sums.parquet"), "two evaluation sets are named sums"),
        (("--out", "OUT", "--data", "x=missing.parquet"), "missing.parquet does not exist"),
        (("--out", "OUT", "--limit", "0"), "--limit 0: give a number of rows"),
        (("--out", "OUT", "--url", "http://127.0.0.1:1", "--vllm", "x"), "give one of them"),
        (("--out", "OUT", "--url", "http://127.0.0.1:1", "--generator", "transformers"), "are for --generator vllm"),
        (("--out", "OUT", "--shot", "2"), "there is no option --shot; did you mean --shots?"),
        (("--out", "OUT", "--generator", "vllm", "--vllm", "no-such-vllm"), "no-such-vllm"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy_and_leave_nothing(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    words = [str(out) if word == "OUT" else word.replace("other/", f"{data.parent}/./") for word in arguments]
    given = f"{{data: {data}, where: split=test}}"
    assert main(["evaluate", model, "--data", given, *FAST, *words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("curate: ")][-1]
    assert message in error
    assert not out.exists()


def test_a_model_that_is_not_there_and_a_run_that_is_not_finished_say_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "none"), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "does not exist" in capsys.readouterr().err
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").touch()
    (run / ".run.json.unfinished").write_text("{}")
    assert main(["evaluate", str(run), "--data", str(data)]) == 2
    assert "is not finished" in capsys.readouterr().err


def test_results_are_not_put_among_the_files_of_a_run(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`curate finetune` would take it for a folder of other files from then on."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert main(["evaluate", model, "--data", str(data), *FAST, "--out", str(run)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["run.json"]


def test_answers_come_from_a_server_where_one_is_started(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / "vllm"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests" / "fixtures" / "vllm.py"} "$@"\n')
    fake.chmod(0o755)
    given = f"sums={{data: {data}, where: split=test}}"
    out = tmp_path / "out"
    assert main(["evaluate", model, "--data", given, *FAST, "--vllm", str(fake), "--out", str(out)]) == 0
    found = read_evaluations(out)["sums"].summary
    assert found["generator"]["kind"] == "vllm"
    assert found["accuracy"] is not None
    assert found["nll"] is not None
