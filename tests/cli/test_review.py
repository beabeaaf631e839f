"""`curate review`: keys, a terminal, interruptions, and what is written."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.cli.review import edited, go_through, keys_of
from curate.report.reviews import Journal, kept_problems
from tests.fixtures.synthesis import write_both


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review") / "out"
    write_both(folder)
    return folder


@pytest.fixture
def directory(made: Path) -> Iterator[Path]:
    yield made
    (made / "reviews.jsonl").unlink(missing_ok=True)


def press(directory: Path, keys: str, *, again: bool = False) -> list[str | None]:
    """Press keys; what is then said of the first problems."""
    problems = kept_problems(directory)
    pressed = iter(keys)
    journal = Journal(directory, problems)
    go_through(problems, journal, lambda: next(pressed, ""), again=again)
    read = Journal(directory, problems).verdicts
    return [read[each.example_id].said if each.example_id in read else None for each in problems[:4]]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("ar", ["accepted", "rejected", None, None]),
        ("a\nxr\n", ["accepted", "rejected", None, None]),  # other keys are explained
        ("sar", [None, "accepted", "rejected", None]),
        ("arua", ["accepted", "accepted", None, None]),
        ("uarr", ["accepted", "rejected", "rejected", None]),
        ("aaquuu", ["accepted", "accepted", None, None]),
        ("aauur", ["rejected", None, None, None]),
        ("", [None] * 4),
    ],
)
def test_keys_say_what_becomes_of_the_problem_that_is_shown(directory: Path, keys: str, said: list[str | None]) -> None:
    assert press(directory, keys) == said


def test_it_goes_on_where_it_was(directory: Path) -> None:
    press(directory, "ar")
    assert press(directory, "r") == ["accepted", "rejected", "rejected", None]
    assert press(directory, "r", again=True) == ["rejected", "rejected", "rejected", None]


def test_interrupted_it_loses_none(directory: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        press(directory, "ar\x03a")
    assert press(directory, "") == ["accepted", "rejected", None, None]


def test_a_terminal_gives_keys_as_they_are_pressed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal, keys_of(terminal) as next_key:
        os.write(master, b"ar")  # no line end
        assert [next_key(), next_key()] == ["a", "r"]
    os.close(master)
    with keys_of(io.StringIO("ar")) as next_key:
        assert [next_key(), next_key(), next_key()] == ["a", "r", ""]


def test_the_command_on_a_terminal(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    problems = kept_problems(directory)
    out = tmp_path / "rows.parquet"
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(master, b"arq")
        assert main(["review", str(directory), "--out", str(out), "--only-accepted"]) == 0
    os.close(master)
    shown = capsys.readouterr().out
    assert "[a]ccept" in shown
    assert f"1 accepted, 0 edited, 1 rejected, {len(problems) - 2} open" in shown
    new = [row for row in pq.read_table(out).to_pylist() if row["origin"] == "synthetic"]
    assert [(row["example_id"], row["review"]) for row in new] == [(problems[0].example_id, "accepted")]


def test_as_json_and_from_a_pipe(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nr\n"))
    assert main(["review", str(directory), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["accepted"], result["rejected"]) == (1, 1)


def test_an_editor_changes_both_texts(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = kept_problems(directory)[0]
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i '1s/.*/What is new?/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(editor))
    found = edited(problem)
    assert found is not None
    assert found[0].splitlines()[0] == "What is new?"
    assert found[1] == problem.solution.strip()
    assert press(directory, "ea")[:2] == ["edited", "accepted"]
    for command in ("true", "false", "no-such-editor-anywhere"):
        monkeypatch.setenv("EDITOR", command)
        assert edited(problem) is None
    monkeypatch.delenv("EDITOR")
    monkeypatch.setattr("curate.cli.review._EDITORS", ("no-such-editor",))
    assert edited(problem) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only-accepted"], "add --out FILE.parquet"),
        (["--out", "rows.csv"], "ends in .parquet"),
    ],
)
def test_what_cannot_work_is_said_first(
    directory: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", str(directory), *words]) == 2
    assert says in capsys.readouterr().err
