"""`curate demo`: problems generated, curated and held against their known levels, in one command."""

import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest

from curate.validation.control_task import Sizes
from tests.fixtures.commands import Call

SMALL = Sizes(rows=160, questions=24, known=40, named=4, base_steps=6, proxy_steps=5, most_steps=4)
QUICK = ("proxy.model=scratch", "proxy.steps=4", "proxy.checkpoints=2", "proxy.batch_size=8")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.cli.demo._SETTINGS", QUICK)


def test_it_leaves_problems_and_a_curated_dataset(call: Call, tmp_path: Path) -> None:
    done = call("demo", "--rows", "120", "--out", tmp_path / "demo", "--cache", tmp_path / "cache", "--json")
    assert done.status == 0, done.err
    record = json.loads(done.out)
    problems = pq.read_table(record["data"])
    assert problems.num_rows == 120
    split = pq.read_table(Path(record["directory"]) / "tables" / "split.parquet")
    assert sum(each["rows"] for each in record["levels"]) == 120
    assert sum(each["hard"] for each in record["levels"]) == sum(split["hard"].to_pylist())
    assert {each["signal"] for each in record["signals"]} == {"loss trajectory", "completion length"}
    assert all(0 <= each[name] <= 1 for each in record["signals"] for name in ("precision", "recall", "auc"))
    assert len(datasets.load_dataset(record["directory"])["train"]) > 120


def test_again_it_shows_the_same(call: Call, tmp_path: Path) -> None:
    arguments = ("demo", "--rows", "120", "--out", tmp_path / "demo", "--cache", tmp_path / "cache")
    first = call(*arguments)
    assert "How the known levels were split" in first.out
    assert "curate run YOUR_DATA" in first.out
    table = [line for line in first.out.splitlines() if "│" in line]
    assert [line for line in call(*arguments).out.splitlines() if "│" in line] == table


def test_the_control_ends_with_the_table_and_one_sentence(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.validation.control.SIZES", SMALL)
    monkeypatch.setattr("curate.validation.control_task._reached", lambda losses, guessing: len(losses) == 3)
    arguments = ("demo", "--control", "--seeds", "1", "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    done = call(*arguments)
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if line.strip()]
    assert lines[-1].startswith("report")
    assert "All arms take 2 steps" in done.out
    cells = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert cells[0] == "original"
    assert cells[1::2] == ["hard", "random", "easy", "hard", "hard"]
    assert cells[2::2] == [f"against {name}" for name in ("original", "original", "original", "random", "easy")]
    record = call(*arguments, "--json").json
    assert record["budget"]["steps"] == 2
    sentence = record["verdict"]["sentence"]
    assert sentence.startswith(("The control passed: ", "The control failed: "))
    assert " ".join(done.out.split()).partition(sentence)[2].startswith(" report")
    assert record["directory"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "2"), "--seeds 2 is for --control"),
        (("--control", "--rows", "200"), "the rows of --control are fixed"),
        (("--control", "--seeds", "0"), "--seeds 0: give at least 1"),
        (("--control", "--out", "FILE"), "FILE"),
        (("--rows", "5"), "--rows 5: give at least 100"),
        (("--rows", "many"), "--rows"),
        (("--out", "FILE"), "FILE"),
    ],
)
def test_mistakes_are_named(call: Call, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "FILE").write_text("a file")
    given = [str(tmp_path / "FILE") if each == "FILE" else each for each in arguments]
    done = call("demo", *given, "--cache", tmp_path / "cache")
    assert done.status == 2
    assert message in done.err
