"""The folder that holds a dataset we made: data/, tables/, README.md, perhaps report.html, and run.json.

Everything is written aside and renamed; run.json comes last, so a folder with run.json is a finished one. Until then
a hidden file marks the folder as ours: without it, a folder that holds data/ and README.md may be anybody's dataset.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.places import check_place
from curate.publish import disk_errors, publish_file, sync

__all__ = ["begin", "check_directory", "finish"]

_OURS = {"data", "tables", "README.md", "report.html", "run.json"}
_UNFINISHED = ".run.json.unfinished"  # becomes run.json by a rename


def check_directory(directory: Path, inputs: str, *, fresh: bool = False) -> bool:
    """Whether `directory` already holds the result of these inputs.

    Raises InputError if it holds something else: other results (unless `fresh`) or files that are not ours; and
    ExternalError if it cannot be written.
    """
    check_place(directory)
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise InputError(f"--out {directory} is a file; name a folder")
    names = {path.name for path in directory.iterdir() if ".partial-" not in path.name}
    foreign = sorted(names - _OURS - {_UNFINISHED})
    if not foreign and names and not names & {"run.json", _UNFINISHED}:
        foreign = sorted(names)
    if foreign:
        raise InputError(f"--out {directory} holds other files ({foreign[0]}); name a new or empty folder")
    if "run.json" not in names:
        return False
    before = _inputs_before(directory / "run.json")
    if before is None:
        raise InputError(f"{directory}/run.json is not that of a run; name another folder, or remove this one")
    if fresh:
        return False
    if before != inputs:
        raise InputError(f"--out {directory} holds the result of other inputs; name another folder, or pass --fresh")
    missing = [name for name in ("data", "tables") if not any((directory / name).glob("*.parquet"))]
    if missing:
        raise InputError(f"{directory}/{missing[0]} is gone although run.json is there; pass --fresh to write it anew")
    return True


def _inputs_before(path: Path) -> str | None:
    """Inputs in a run.json; None if it is not one of ours."""
    try:
        inputs = json.loads(path.read_text(encoding="utf-8")).get("inputs")
    except (OSError, ValueError, AttributeError):
        return None
    return inputs if isinstance(inputs, str) else None


def begin(directory: Path, inputs: str) -> None:
    """Mark the folder as ours; an earlier result is no longer a finished one.

    Its card goes too: it names the version of the data, and `datasets` would take what comes next for what it knows.
    """
    publish_file(directory / _UNFINISHED, inputs + "\n")
    with disk_errors(directory):
        (directory / "run.json").unlink(missing_ok=True)
        (directory / "README.md").unlink(missing_ok=True)


def finish(directory: Path, record: dict[str, Any]) -> None:
    """Write run.json, after which the folder is finished."""
    publish_file(directory / _UNFINISHED, json.dumps(record, indent=1, allow_nan=False) + "\n")
    with disk_errors(directory):
        os.replace(directory / _UNFINISHED, directory / "run.json")
        sync(directory)
