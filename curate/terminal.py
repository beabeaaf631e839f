"""Tables and lines on stdout for a person."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["show"]


def show(*renderables: Any) -> None:
    """Print text and rich tables; text is taken literally, whatever brackets and colons it holds."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    # Captured, because rich answers a closed pipe (`| head`) by ending the process with status 1.
    with console.capture() as captured:
        for renderable in renderables:
            console.print(renderable)
    sys.stdout.write(captured.get())
