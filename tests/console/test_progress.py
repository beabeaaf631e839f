"""Progress: every stage is timed, lines go to stderr alone, and `watch` can stop a stage."""

import re
import sys
import types

import pytest

from curate.console import progress as module
from curate.console.progress import Progress, as_progress


def test_stages_are_timed_in_order_also_where_one_fails() -> None:
    progress = Progress()
    with progress.stage("first") as stage:
        stage.cost.tokens = 7
    with pytest.raises(ValueError, match="no"), progress.stage("second"):
        raise ValueError("no")
    assert [(cost.name, cost.tokens) for cost in progress.costs] == [("first", 7), ("second", 0)]
    assert all(cost.seconds > 0 for cost in progress.costs)


def test_lines_count_what_is_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINE_SECONDS", 0.0)
    progress = Progress("lines")
    progress.note("found \x1b[31m")
    with progress.stage("read", 2_000) as stage:
        stage.advance(1_000)
        stage.advance(1_000, "loss 1.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:3] == ["found ␛[31m", "read: 1,000 of 2,000 rows", "read: 2,000 of 2,000 rows, loss 1.5"]
    assert err.splitlines()[3].startswith("read: done in ")


@pytest.mark.parametrize("style", ["none", "lines", "bar"])
def test_watch_is_called_at_every_advance_and_what_it_raises_stops_the_stage(style: str) -> None:
    calls: list[int] = []

    def watch() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise TimeoutError

    progress = Progress(style, watch=watch)  # type: ignore[arg-type]

    def train() -> None:
        with progress.stage("train", 9) as stage:
            for _ in range(9):
                stage.advance(1)

    with pytest.raises(TimeoutError):
        train()
    assert len(calls) == 2


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("none")
    progress.note("found")
    with progress.stage("read", 3) as stage:
        stage.advance(3)
    assert capsys.readouterr() == ("", "")


def test_what_is_said_goes_to_the_logger_also_when_nothing_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("none")
    with caplog.at_level("INFO", logger="curate"), progress.stage("read", 3):
        progress.note("found 3 rows")
    progress.warn("look at this")
    progress.warn("look at this")
    assert next(record.getMessage() for record in caplog.records) == "found 3 rows"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["look at this"]


def test_a_warning_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = as_progress(True)
    progress.warn("look at this")
    progress.warn("look at this")
    assert capsys.readouterr().err == "warning: look at this\n"


def test_a_notebook_has_one_display_that_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        pass

    class Handle:
        def update(self, content: dict[str, str], raw: bool) -> None:
            drawn[-1] = content

    def display(content: dict[str, str], **options: bool) -> Handle:
        drawn.append(content)
        return Handle()

    drawn: list[dict[str, str]] = []
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: ZMQInteractiveShell()  # type: ignore[attr-defined]
    shown = types.ModuleType("IPython.display")
    shown.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    progress = as_progress(True)
    with progress.stage("read", 3) as stage:
        stage.advance(3)
    progress.note("found <b>3</b>")
    with progress.stage("train"), progress.stage("measure", 2) as inner:
        inner.advance(2)
    assert len(drawn) == 1
    lines = [re.sub(r"[\d.]+ s", "T", line) for line in drawn[0]["text/plain"].splitlines()]
    assert lines == ["read: 3 rows, T", "measure: 2 rows, T", "train: T", "found <b>3</b>"]
    assert "<b>" not in drawn[0]["text/html"]


def test_a_terminal_that_a_notebook_started_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert Progress("auto")._style() == "bar"
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert Progress("auto")._style() == "lines"
