"""The exact parser of JSON files agrees with the fast one."""

from __future__ import annotations

from pathlib import Path

from curate.data.sources import read_files
from tests.data.formats.test_json_files import AS_JSON, KEPT, written


def test_the_fast_and_the_exact_parser_agree(tmp_path: Path) -> None:
    """A list that begins with null, in a column of its own, is what the fast one is not trusted with."""
    for cells, kind in [*KEPT, *AS_JSON]:
        plain, plain_notes = read_files([written(tmp_path, *(f'{{"x": {cell}, "z": [1]}}' for cell in cells))], [])
        exact, exact_notes = read_files(
            [written(tmp_path, *(f'{{"x": {cell}, "z": [null, 1]}}' for cell in cells))], []
        )
        assert plain["x"].type == exact["x"].type == kind
        assert plain["x"].to_pylist() == exact["x"].to_pylist()
        assert plain_notes == exact_notes
