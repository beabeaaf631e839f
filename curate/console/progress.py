"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when silent; in a notebook in its cell.

Whatever is shown, the logger `curate` has it too.
"""

from __future__ import annotations

import html
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from curate.console.formatting import visible
from curate.console.printing import tell

Advance = Callable[..., None]  # (count, /, detail=""): so many more are done, and what else to show beside them now

_LINE_SECONDS = 10.0  # how often a stage may print on a plain stream
_REDRAW_SECONDS = 0.2  # how often a notebook's cell is drawn
_MOST_NOTES = 40  # of one cell

LOG = logging.getLogger("curate")
LOG.addHandler(logging.NullHandler())  # a library says nothing that its user did not ask for


@dataclass
class StageCost:
    """What one stage took: seconds of wall time, tokens through a model, and whether it came from the cache."""

    name: str
    seconds: float = 0.0
    tokens: int = 0
    cached: bool = False


@dataclass
class Progress:
    """style: "bar", "lines", "notebook" or "none"; "auto" = a bar on a terminal, the output of the cell in a notebook,
    and lines elsewhere.

    watch: called at every advance of any stage; what it raises stops the stage, as an interruption would.
    """

    style: Literal["auto", "bar", "lines", "notebook", "none"] = "none"
    costs: list[StageCost] = field(default_factory=list)
    watch: Callable[[], None] | None = None
    _cell: _Cell | None = field(default=None, repr=False, compare=False)
    _warned: set[str] = field(default_factory=set, repr=False, compare=False)

    def note(self, text: str) -> None:
        """One line for the reader, above any bar."""
        text = visible(text, len(text))  # it may quote names and paths
        LOG.info("%s", text.strip())
        self._say(text)

    def warn(self, text: str) -> None:
        """One line about what the reader should look at; the same one only once."""
        if text in self._warned:
            return
        self._warned.add(text)
        text = visible(text, len(text))
        LOG.warning("%s", text)
        self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        style = self._style()
        if style == "notebook":
            self._board().note(text)
        elif style != "none":
            tell(text)

    def _style(self) -> str:
        return _fitting() if self.style == "auto" else self.style

    def _board(self) -> _Cell:
        if self._cell is None:
            self._cell = _Cell()
        return self._cell

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
        """Time a stage and show how far it is; yields an object with `advance(k)` and the cost record."""
        cost = StageCost(name)
        self.costs.append(cost)
        started = time.monotonic()
        style = self._style()
        try:
            if style == "notebook":
                board = self._board()
                running = board.begin(name, total, unit)

                def advance(count: int, /, detail: str = "") -> None:
                    board.advance(running, count, detail)

                yield Stage(cost, self._watched(advance))
                board.end(running, time.monotonic() - started)
            elif style == "bar":
                with _bar(name, total, unit) as advance:
                    yield Stage(cost, self._watched(advance))
            else:
                yield Stage(cost, self._watched(_lines(name, total, unit) if style == "lines" else _silent))
            if style == "lines":
                tell(f"{name}: done in {time.monotonic() - started:.1f} s")
            LOG.info("%s: done in %.1f s", name, time.monotonic() - started)
        finally:
            cost.seconds += time.monotonic() - started

    def _watched(self, advance: Advance) -> Advance:
        watch = self.watch
        if watch is None:
            return advance

        def watched(count: int, /, detail: str = "") -> None:
            advance(count, detail)
            watch()

        return watched


def as_progress(wanted: Progress | bool | None) -> Progress:
    """What `progress=` of a call means: True = shown where there is something to show it, False or None = silent."""
    if _notebook() is not None:  # where tqdm, which others use, would ask for its widgets
        warnings.filterwarnings("ignore", message="IProgress not found")
    return wanted if isinstance(wanted, Progress) else Progress("auto" if wanted else "none")


def _fitting() -> str:
    """The style for where this process runs."""
    if _notebook() is not None:
        return "notebook"
    # A command that a notebook starts with `!` has a terminal of its own, which shows no more than lines.
    return "bar" if sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ else "lines"


def _notebook() -> Any:
    """The kernel's shell, if this is the process of a notebook that has one; else None. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if type(shell).__name__ == "ZMQInteractiveShell" else None


@dataclass
class _Running:
    """A stage that is not done: how far it is."""

    name: str
    total: int | None
    unit: str
    count: int = 0
    detail: str = ""

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        counted = f" {self.count:,}{of} {self.unit}" if self.count else ""
        return f"{self.name}:{counted}{self.detail and ', ' + self.detail}"


class _Cell:
    """The output of one notebook cell: finished stages as lines, those that run as bars, notes below.

    It is one display that is drawn anew, so that a saved notebook holds only how it ended. Stages may be nested.
    """

    def __init__(self) -> None:
        self._done: list[str] = []
        self._running: list[_Running] = []
        self._notes: list[str] = []
        self._drawn = 0.0
        self._handle: Any = None

    def begin(self, name: str, total: int | None, unit: str) -> _Running:
        running = _Running(name, total, unit)
        self._running.append(running)
        self._draw()
        return running

    def advance(self, running: _Running, count: int, detail: str) -> None:
        running.count += count
        running.detail = detail
        if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def end(self, running: _Running, seconds: float) -> None:
        counted = f"{running.count:,} {running.unit}, " if running.count else ""
        self._running.remove(running)
        self._done.append(f"{running.name}: {counted}{seconds:.1f} s")
        self._draw()

    def note(self, text: str) -> None:
        if text.strip() and len(self._notes) < _MOST_NOTES:
            self._notes.append(text.strip())
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        lines = [*self._done, *map(str, self._running), *self._notes]
        shown = [f"<div>{html.escape(line)}</div>" for line in self._done]
        for each in self._running:
            amount = f' value="{each.count}" max="{each.total}"' if each.total else ""
            shown.append(f"<div>{html.escape(str(each))} <progress{amount}></progress></div>")
        shown += [f"<div>{html.escape(note)}</div>" for note in self._notes]
        content = {"text/html": f"<div style='line-height:1.4'>{''.join(shown)}</div>", "text/plain": "\n".join(lines)}
        if self._handle is None:
            display = sys.modules["IPython.display"].display  # the kernel has it, and no one else needs it
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


@dataclass
class Stage:
    cost: StageCost
    advance: Advance


def _silent(_count: int, /, detail: str = "") -> None:
    pass


def _lines(name: str, total: int | None, unit: str) -> Advance:
    done, printed = 0, time.monotonic()

    def advance(count: int, /, detail: str = "") -> None:
        nonlocal done, printed
        done += count
        now = time.monotonic()
        if now - printed >= _LINE_SECONDS:
            printed = now
            of = f" of {total:,}" if total else ""
            tell(f"{name}: {done:,}{of} {unit}{detail and ', ' + detail}")

    return advance


@contextmanager
def _bar(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, detail="")

        def advance(count: int, /, detail: str = "") -> None:
            bar.update(task, advance=count, detail=detail)

        yield advance
        if total is None:  # known now
            bar.update(task, total=bar.tasks[0].completed)
