"""Tables and lines on stdout for a person."""

from __future__ import annotations

import os
import sys
import textwrap
from contextlib import suppress
from typing import Any

from curate.console.formatting import visible


def show(*renderables: Any) -> None:
    """Print text and rich tables; text is taken literally, whatever brackets, colons and control characters it holds.

    On a terminal, or where COLUMNS gives its width, text is wrapped between words; a path is never broken, so that
    it can be copied.
    """
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    # Captured, because rich answers a closed pipe (`| head`) by ending the process with status 1.
    width = console.width if console.is_terminal or os.environ.get("COLUMNS") else 0
    with console.capture() as captured:
        for renderable in renderables:
            if isinstance(renderable, str):
                lines = _shown(renderable).split("\n")
                console.print("\n".join(_wrapped(line, width) for line in lines), soft_wrap=True)
            else:
                # Cells are cleaned as they are drawn: what they quote may hold terminal escapes.
                drawn = [Segment(_shown(text), style) for text, style, _ in console.render(renderable)]
                console.print(Segments(drawn), end="")
    sys.stdout.write(captured.get())


def tell(line: str) -> None:
    """Print a line on stderr. One that cannot be written, to a full disk or a closed pipe, is no reason to stop."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    """Print lines that a person may copy, such as commands and paths: control characters shown, nothing wrapped."""
    sys.stdout.write("".join(f"{_shown(line)}\n" for line in lines))


def _shown(text: str) -> str:
    return visible(text, len(text))


def _wrapped(line: str, width: int) -> str:
    """The line in pieces of at most `width` characters where its words are no longer; 0 = as it is."""
    if len(line) <= width or not width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    wrapper = textwrap.TextWrapper(width, indent, indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line.lstrip())
