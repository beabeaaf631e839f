"""The folder that holds a dataset we made: data/, tables/, README.md, perhaps report.html, and run.json.

Everything is written aside and renamed; run.json comes last, so a folder with run.json is a finished one. Until then
a hidden file marks the folder as ours: without it, a folder that holds data/ and README.md may be anybody's dataset.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.storage.atomic import disk_errors, publish_file, remove_file, sync
from curate.storage.places import check_place
from curate.storage.records import check_files, file_checksums, peek, read_record, record_text

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
    ours = isinstance(peek(directory / "run.json").get("inputs"), str)
    if ours and fresh:
        return False
    remedy = "pass --fresh to write the result anew" if ours else "name another folder, or remove this one"
    record = read_record(directory / "run.json", remedy)
    if record.get("inputs") != inputs:
        raise InputError(f"--out {directory} holds the result of other inputs; name another folder, or pass --fresh")
    check_files(directory, record, remedy)
    return True


def begin(directory: Path, inputs: str) -> None:
    """Mark the folder as ours; an earlier result is no longer a finished one.

    Its card goes too: it names the version of the data, and `datasets` would take what comes next for what it knows.
    """
    publish_file(directory / _UNFINISHED, inputs + "\n")
    for name in ("run.json", "README.md"):
        remove_file(directory / name)


def finish(directory: Path, record: dict[str, Any]) -> None:
    """Write run.json, after which the folder is finished."""
    record = {**record, "files": file_checksums(directory, ("data/*.parquet", "tables/*.parquet"))}
    publish_file(directory / _UNFINISHED, record_text(record))
    with disk_errors(directory):
        os.replace(directory / _UNFINISHED, directory / "run.json")
        sync(directory)
