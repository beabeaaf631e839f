"""The map as a table in Markdown and as a figure, from the records alone."""

from __future__ import annotations

from pathlib import Path


def write_tables(records: Path) -> None:
    """records/map.md"""
