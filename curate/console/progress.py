"""Progress display: a bar on a terminal, the output cell in a notebook, plain lines on stderr elsewhere."""

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

Advance = Callable[..., None]  # (count, /, detail=""): number of units done since the last call, and text to show

_LINE_SECONDS = 10.0  # how often a stage may print on a plain stream
_REDRAW_SECONDS = 0.2  # how often a notebook's cell is drawn
_MOST_NOTES = 40  # of one cell

LOG = logging.getLogger("curate")
LOG.addHandler(logging.NullHandler())  # a library prints nothing unless its user configures logging


@dataclass
class StageCost:
    """Cost of one stage. seconds: wall time. tokens: processed by a model. cached: whether it came from the cache."""

    name: str
    seconds: float = 0.0
    tokens: int = 0
    cached: bool = False


@dataclass
class Progress:
    """Display and timing of the stages of a run.

    Everything that is shown also goes to the logger `curate`.

    style: "bar", "lines", "notebook" or "none"; "auto" = a bar on a terminal, the cell's output in a notebook, and
    lines elsewhere. costs: one record per stage, in order. watch: called at every advance of any stage; an exception
    that it raises ends the stage like an interruption.
    """

    style: Literal["auto", "bar", "lines", "notebook", "none"] = "none"
    costs: list[StageCost] = field(default_factory=list)
    watch: Callable[[], None] | None = None
    _cell: _Cell | None = field(default=None, repr=False, compare=False)
    _warned: set[str] = field(default_factory=set, repr=False, compare=False)

    def note(self, text: str) -> None:
        """Show a line, above any bar."""
        text = visible(text, len(text))  # it may quote names and paths
        LOG.info("%s", text.strip())
        self._say(text)

    def warn(self, text: str) -> None:
        """Show a warning; the same text only once."""
        if text in self._warned:
            return
        self._warned.add(text)
        text = visible(text, len(text))
        LOG.warning("%s", text)
        self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        """Write a line in the current style."""
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
        """Time a stage and display its progress; yields an object with `advance(k)` and the cost record.

        total: number of units, if known. unit: their name in the display.
        """
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
        """`advance`, followed by a call of `watch` if there is one."""
        watch = self.watch
        if watch is None:
            return advance

        def watched(count: int, /, detail: str = "") -> None:
            advance(count, detail)
            watch()

        return watched


def as_progress(setting: Progress | bool | None) -> Progress:
    """Progress for the argument `progress=` of a public function: True = "auto", False or None = silent."""
    if _notebook() is not None:  # tqdm, which other libraries use, asks for ipywidgets there
        warnings.filterwarnings("ignore", message="IProgress not found")
    return setting if isinstance(setting, Progress) else Progress("auto" if setting else "none")


def _fitting() -> str:
    """The style for where this process runs."""
    if _notebook() is not None:
        return "notebook"
    # A command that a notebook starts with `!` has its own terminal, which shows lines only.
    return "bar" if sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ else "lines"


def _notebook() -> Any:
    """The IPython shell if this process is a notebook's kernel, else None. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if type(shell).__name__ == "ZMQInteractiveShell" else None


@dataclass
class _Running:
    """A stage that is not finished. count: units done so far."""

    name: str
    total: int | None
    unit: str
    count: int = 0
    detail: str = ""

    def __str__(self) -> str:
        of_total = f" of {self.total:,}" if self.total else ""
        counted = f" {self.count:,}{of_total} {self.unit}" if self.count else ""
        return f"{self.name}:{counted}{self.detail and ', ' + self.detail}"


class _Cell:
    """The output of one notebook cell: finished stages as lines, running ones as bars, notes below.

    It is one display that is updated in place, so that a saved notebook holds only its last state. Stages may be
    nested.
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
        rows = [f"<div>{html.escape(line)}</div>" for line in self._done]
        for stage in self._running:
            amount = f' value="{stage.count}" max="{stage.total}"' if stage.total else ""
            rows.append(f"<div>{html.escape(str(stage))} <progress{amount}></progress></div>")
        rows += [f"<div>{html.escape(note)}</div>" for note in self._notes]
        content = {"text/html": f"<div style='line-height:1.4'>{''.join(rows)}</div>", "text/plain": "\n".join(lines)}
        if self._handle is None:
            display = sys.modules["IPython.display"].display  # a kernel has imported it already
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


@dataclass
class Stage:
    """A running stage: its cost record, and the function to call as units are done."""

    cost: StageCost
    advance: Advance


def _silent(_count: int, /, detail: str = "") -> None:
    pass


def _lines(name: str, total: int | None, unit: str) -> Advance:
    """Print a line on stderr at most every `_LINE_SECONDS`."""
    done, printed = 0, time.monotonic()

    def advance(count: int, /, detail: str = "") -> None:
        nonlocal done, printed
        done += count
        now = time.monotonic()
        if now - printed >= _LINE_SECONDS:
            printed = now
            of_total = f" of {total:,}" if total else ""
            tell(f"{name}: {done:,}{of_total} {unit}{detail and ', ' + detail}")

    return advance


@contextmanager
def _bar(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    """A rich progress bar on stderr."""
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
