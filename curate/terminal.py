"""Tables and lines on stdout for a person."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Any

__all__ = ["show"]


def show(*renderables: Any) -> None:
    """Print text and rich tables; text is taken literally, whatever brackets and colons it holds.

    On a terminal, or where COLUMNS gives its width, text is wrapped between words; a path is never broken, so that
    it can be copied.
    """
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    # Captured, because rich answers a closed pipe (`| head`) by ending the process with status 1.
    width = console.width if console.is_terminal or os.environ.get("COLUMNS") else 0
    with console.capture() as captured:
        for renderable in renderables:
            if isinstance(renderable, str):
                console.print("\n".join(_wrapped(line, width) for line in renderable.split("\n")), soft_wrap=True)
            else:
                console.print(renderable)
    sys.stdout.write(captured.get())


def _wrapped(line: str, width: int) -> str:
    """The line in pieces of at most `width` characters where its words are no longer; 0 = as it is."""
    if len(line) <= width or not width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    wrapper = textwrap.TextWrapper(width, indent, indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line.lstrip())
