"""`curate expo`: one model, several, and arguments that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli.main import main
from curate.storage.records import read_record
from tests.fixtures.expo import write_pair


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return write_pair(tmp_path_factory.mktemp("trained"))


def test_the_command_writes_one_model(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, _ = trained
    given = ["expo", str(tuned), "--base", str(base), "--alpha", "0.3", "--out", str(tmp_path / "out"), "--json"]
    assert main(given) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["alpha"] == 0.3
    assert shown == {"directory": str(tmp_path / "out"), **read_record(tmp_path / "out/expo.json", "")}
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tuned / "tokenizer.json").read_bytes()
    assert main(["expo", str(tuned), "--base", str(base), "--alpha=-0.5,1", "--out", str(tmp_path / "two")]) == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"alpha--0.5", "alpha-1", "sweep.json"}
    assert "alpha-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--alpha", "0.3"], "name that model with --base"),
        (["--alpha", "much", "--base", "BASE"], "--alpha much: give numbers"),
        (["--alpha=-1.5", "--base", "BASE"], "from -1 (the base)"),
        (["--alpha", "nan", "--base", "BASE"], "from -1 (the base)"),
        (["--alpha", "0.3,0.30000001", "--base", "BASE"], "give fewer digits"),
        (["--alpha", "0.3", "--base", "BASE", "--by", "nll"], "--evaluation DATA"),
        (["--alpha", "0.3", "--base", "/nowhere"], "does not exist"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    trained: tuple[Path, Path, Path], tmp_path: Path, given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, _ = trained
    words = [str(base) if word == "BASE" else word for word in given]
    assert main(["expo", str(tuned), *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
