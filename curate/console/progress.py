"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when silent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from curate.console.formatting import visible
from curate.console.printing import tell

Advance = Callable[..., None]  # (count, /, detail=""): so many more are done, and what else to show beside them now

_LINE_SECONDS = 10.0  # how often a stage may print on a plain stream


@dataclass
class StageCost:
    """What one stage took: seconds of wall time, tokens through a model, and whether it came from the cache."""

    name: str
    seconds: float = 0.0
    tokens: int = 0
    cached: bool = False


@dataclass
class Progress:
    """style: "bar", "lines" or "none"; "auto" takes a bar on a terminal and lines elsewhere.

    watch: called at every advance of any stage; what it raises stops the stage, as an interruption would.
    """

    style: Literal["auto", "bar", "lines", "none"] = "none"
    costs: list[StageCost] = field(default_factory=list)
    watch: Callable[[], None] | None = None

    def note(self, text: str) -> None:
        """One line for the reader, above any bar."""
        if self._style() != "none":
            tell(visible(text, len(text)))  # it may quote names and paths

    def _style(self) -> str:
        if self.style == "auto":
            return "bar" if sys.stderr.isatty() else "lines"
        return self.style

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
        """Time a stage and show how far it is; yields an object with `advance(k)` and the cost record."""
        cost = StageCost(name)
        self.costs.append(cost)
        started = time.monotonic()
        style = self._style()
        try:
            if style == "bar":
                with _bar(name, total, unit) as advance:
                    yield Stage(cost, self._watched(advance))
            else:
                yield Stage(cost, self._watched(_lines(name, total, unit) if style == "lines" else _silent))
            if style == "lines":
                tell(f"{name}: done in {time.monotonic() - started:.1f} s")
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
