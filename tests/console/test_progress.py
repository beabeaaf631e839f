"""Progress: every stage is timed, lines go to stderr alone, and `watch` can stop a stage."""

import pytest

from curate.console import progress as module
from curate.console.progress import Progress


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
