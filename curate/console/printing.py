"""Print tables and lines for people."""

from __future__ import annotations

import os
import sys
import textwrap
from contextlib import suppress
from typing import Any

from curate.console.formatting import visible


def show(*renderables: Any) -> None:
    """Print text and rich tables on stdout; brackets, colons and control characters in text are taken literally.

    On a terminal, or if COLUMNS is set, text is wrapped between words; a path is never broken, so that it can be
    copied.
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
                # Cells may quote data with terminal escapes.
                segments = [Segment(_shown(text), style) for text, style, _ in console.render(renderable)]
                console.print(Segments(segments), end="")
    sys.stdout.write(captured.get())


def tell(line: str) -> None:
    """Print a line on stderr; failures, such as a full disk or a closed pipe, are ignored."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    """Print lines that people copy, such as commands and paths, without wrapping; control characters made visible."""
    sys.stdout.write("".join(f"{_shown(line)}\n" for line in lines))


def _shown(text: str) -> str:
    """The whole text with control characters made visible."""
    return visible(text, len(text))


def _wrapped(line: str, width: int) -> str:
    """The line wrapped at `width` characters; longer words are not broken. width 0 = no wrapping."""
    if len(line) <= width or not width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    wrapper = textwrap.TextWrapper(width, indent, indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line.lstrip())
