"""`curate review`: show new problems beside their parents, one at a time, and record a person's verdict on each."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from curate.console.printing import say, show
from curate.errors import InputError
from curate.report.reviews import Journal, NewProblem, kept_problems, reviewed_rows, write_rows
from curate.storage.places import check_place, local_path
from curate.storage.temporary import temporary_folder

_EDITORS = ("sensible-editor", "editor", "nano", "vim", "vi")  # of which the first that is there is taken
_KEYS = "[a]ccept  [r]eject  [e]dit  [s]kip  [u]ndo  [q]uit"
_BETWEEN = "----- the solution follows this line -----"
_END, _INTERRUPT = ("", "q", "\x04"), "\x03"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate review`."""
    parser.add_argument("directory", type=local_path, metavar="DIR", help="folder of a finished run with new problems")
    parser.add_argument("--again", action="store_true", help="also show problems that already have a verdict")
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="Parquet file for the rows, with a column of verdicts and the edited texts",
    )
    parser.add_argument("--only-accepted", action="store_true", help="with --out: only accepted new problems")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate review`: show problems, ask for verdicts, record them, and write the requested files."""
    if options.only_accepted and options.out is None:
        raise InputError("--only-accepted is about the rows that are written; add --out FILE.parquet")
    if options.out is not None and (options.out.suffix != ".parquet" or options.out.is_dir()):
        raise InputError(f"--out {options.out} is no Parquet file; give a name that ends in .parquet")
    if options.out is not None:
        check_place(options.out)
    problems = kept_problems(options.directory)
    journal = Journal(options.directory, problems)
    with keys_of(sys.stdin) as next_key:
        go_through(problems, journal, next_key, again=options.again)
    result: dict[str, Any] = {
        "problems": len(problems),
        **{verdict: journal.count(verdict) for verdict in ("accepted", "edited", "rejected")},
        "open": len(problems) - len(journal.verdicts),
        "reviews": str(journal.path),
        "out": None if options.out is None else str(options.out),
    }
    if options.out is not None:
        rows = reviewed_rows(options.directory, journal, only_accepted=options.only_accepted)
        write_rows(rows, options.out)
        result["rows"] = len(rows)
    if not options.json:
        _print(result)
    return result


def go_through(
    problems: list[NewProblem], journal: Journal, next_key: Callable[[], str], *, again: bool = False
) -> None:
    """Ask for a verdict on each problem that has none. next_key: the next key pressed, "" at the end of input."""
    place = 0
    shown_place: int | None = None
    while place < len(problems):
        problem = problems[place]
        if problem.example_id in journal.verdicts and not again:
            place += 1
            continue
        if shown_place != place:
            _show(problem, place, len(problems))
            shown_place = place
        key = next_key()
        if key == _INTERRUPT:
            raise KeyboardInterrupt
        if key in _END:
            return
        if key == "u":
            undone = journal.undo()
            if undone is None:
                show("nothing to undo")
            else:
                show("the last verdict is taken back")
                place = next(k for k, problem in enumerate(problems) if problem.example_id == undone)
                shown_place = None
            continue
        if _record_verdict(key, problem, journal):
            place += 1


def _record_verdict(key: str, problem: NewProblem, journal: Journal) -> bool:
    """Record the verdict of a key; returns whether to continue with the next problem."""
    if key == "a":
        journal.add(problem, "accepted")
    elif key == "r":
        journal.add(problem, "rejected")
    elif key == "e":
        texts = edited(problem)
        if texts is None:
            show(_KEYS)
            return False
        journal.add(problem, "edited", problem=texts[0], solution=texts[1])
    elif key != "s":
        if key.strip():
            show(_KEYS)
        return False
    show({"a": "accepted", "r": "rejected", "e": "edited and accepted", "s": "skipped"}[key] + "\n")
    return True


def edited(problem: NewProblem) -> tuple[str, str] | None:
    """Problem and solution after editing in $VISUAL, $EDITOR or the system's editor; None if nothing changed."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or next(filter(shutil.which, _EDITORS), None)
    if not command:
        show("no editor: set EDITOR, such as EDITOR=nano, and run again")
        return None
    before = f"{problem.problem}\n{_BETWEEN}\n{problem.solution}\n"
    with temporary_folder("curate-review-") as folder:
        path = folder / "problem.txt"
        path.write_text(before, encoding="utf-8")
        try:
            status = subprocess.run([*shlex.split(command), str(path)], check=False).returncode
            after = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            show(f"the editor {command} did not work ({error}); nothing is changed")
            return None
    first, mark, second = after.partition(f"\n{_BETWEEN}\n")
    if status or after == before or not (mark and first.strip() and second.strip()):
        show(
            "nothing is changed"
            if status or after == before
            else "the line between the two is gone; nothing is changed"
        )
        return None
    return first.strip(), second.strip()


@contextmanager
def keys_of(stream: Any) -> Iterator[Callable[[], str]]:
    """Yield keys: from a terminal as soon as they are pressed, from any other input character by character."""
    try:
        terminal = stream.isatty()
    except ValueError:  # the input is closed
        terminal = False
    if not terminal:
        yield lambda: stream.read(1) if not stream.closed else ""
        return
    import termios
    import tty

    number = stream.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number, termios.TCSANOW)  # keys pressed earlier count too
        yield lambda: os.read(number, 1).decode("utf-8", "replace")
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _show(problem: NewProblem, place: int, count: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{place + 1} of {count}", title_justify="left", expand=True)
    table.add_column("parent", ratio=1, overflow="fold")
    table.add_column("new problem", ratio=1, overflow="fold")
    table.add_row(Text(problem.parent_problem), Text(problem.problem))
    second = f", second route {problem.second_verdicts.count('right')} of {len(problem.second_verdicts)}"
    facts = f"answer {problem.answer}; {problem.right} of {problem.drawn} right"
    facts += second if problem.second_verdicts else ""
    if problem.difference is not None:
        facts += f", difference {problem.difference:.2f}"
    if problem.rescored_hard is not None:
        facts += ", hard again" if problem.rescored_hard else ", not hard"
    show(table, f"solution: {problem.solution}", facts, _KEYS)


def _print(result: dict[str, Any]) -> None:
    show(
        f"{result['accepted']:,} accepted, {result['edited']:,} edited, {result['rejected']:,} rejected, "
        f"{result['open']:,} open of {result['problems']:,} new problems"
    )
    if result["out"] is not None:
        say(f"{result['rows']:,} rows -> {result['out']}")
