"""Lines and tables on stdout: text is literal and harmless, paths are never broken."""

import pytest
from rich.table import Table

from curate.console.printing import say, show

PATH = "/a/long/path/" + "x" * 60


def test_markup_emoji_and_control_characters_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[bold]name[/bold]")
    table.add_row(":smile: \x1b[31mred")
    show("[red]text[/red] :smile: \x07", table)
    say("\x1b[2J [red]")
    out = capsys.readouterr().out
    assert "[red]text[/red] :smile: ␇" in out
    assert ":smile: ␛[31mred" in out
    assert "␛[2J [red]" in out
    assert not {c for c in out if ord(c) < 32} - {"\n"}


def test_text_is_wrapped_between_words_and_paths_are_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(f"  {'word ' * 20}{PATH}")
    lines = capsys.readouterr().out.splitlines()
    assert PATH in [line.strip() for line in lines]
    assert all(line.startswith("  ") and (len(line) <= 40 or PATH in line) for line in lines)
    say(f"curate run {PATH} --out {PATH}")
    assert capsys.readouterr().out == f"curate run {PATH} --out {PATH}\n"
