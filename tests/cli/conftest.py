from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from tests.fixtures.commands import TINY, Call, Finished, Outcome, _rows, _write


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; also what is written past Python's own streams is seen."""

    def run(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capfd.readouterr())

    return run


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
