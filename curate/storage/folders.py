"""Output folders: whether a command may write into one, and whether the result in it is finished."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.storage.atomic import disk_errors, publish_file, remove, remove_file, sync
from curate.storage.places import check_place
from curate.storage.records import check_files, file_checksums, peek, read_record, record_text

RECORD = "run.json"
UNFINISHED = ".run.json.unfinished"  # becomes run.json by a rename


@dataclass(frozen=True)
class OutputFolder:
    """The --out folder of one kind of command.

    Files are written under temporary names and renamed; run.json comes last, so a folder with run.json is finished.
    Until then a mark file tells that a command owns the folder: data/ and README.md alone could be anyone's dataset.

    parts: names of what the command writes there besides the record and the marks. marks: names of files, each of which
    tells that the folder was written by this kind of command; `empty` removes the last of them last.
    """

    path: Path
    parts: frozenset[str]
    marks: tuple[str, ...] = (RECORD, UNFINISHED)

    def names(self) -> set[str]:
        """Names in the folder, without temporary ones; empty if it does not exist.

        Raises InputError for a file, or a folder with anything that this command did not write; ExternalError if it
        cannot be written.
        """
        check_place(self.path)
        if not self.path.exists():
            return set()
        if not self.path.is_dir():
            raise InputError(f"--out {self.path} is a file; name a folder")
        names = {path.name for path in self.path.iterdir() if ".partial-" not in path.name}
        foreign = sorted(names - self.parts - {RECORD, *self.marks})
        if not foreign and not names & set(self.marks):
            foreign = sorted(names)
        if foreign:
            raise InputError(f"--out {self.path} holds other files ({foreign[0]}); name a new or empty folder")
        return names

    def matches(self, name: str, inputs: str, *, fresh: bool, again: str, other: str, kind: str | None = None) -> bool:
        """Whether the record `name` is that of these inputs and the files it describes are unchanged.

        False if `fresh` allows replacing it. kind: expected "kind" of the record. Parts of messages: again (what
        --fresh does here) and other (what the folder holds if not this result). Raises InputError for a record of
        other inputs or another kind, and for a damaged one.
        """
        claimed = peek(self.path / name)
        is_ours = isinstance(claimed.get("inputs"), str) and (kind is None or claimed.get("kind") == kind)
        if is_ours and fresh:
            return False
        remedy = f"pass --fresh to {again}" if is_ours else "name another folder, or remove this one"
        record = read_record(self.path / name, remedy, kind)
        if record.get("inputs") != inputs:
            raise InputError(f"--out {self.path} {other}; name another folder, or pass --fresh")
        check_files(self.path, record, remedy)
        return True

    def empty(self) -> None:
        """Remove everything that the command wrote: run.json first, so that nothing looks finished, a mark last."""
        last = self.marks[-1]
        with disk_errors(self.path):
            if last == UNFINISHED and (self.path / RECORD).exists():
                os.replace(self.path / RECORD, self.path / UNFINISHED)
            for name in (RECORD, *sorted(self.parts), *self.marks[:-1], last):
                remove(self.path / name)

    def finish(self, record: dict[str, Any], patterns: Iterable[str]) -> None:
        """Write run.json, with checksums of the files that match any of the patterns; the folder is then finished."""
        text = record_text({**record, "files": file_checksums(self.path, patterns)})
        publish_file(self.path / UNFINISHED, text)
        with disk_errors(self.path):
            os.replace(self.path / UNFINISHED, self.path / RECORD)
            sync(self.path)


REVIEWS = "reviews.jsonl"  # human reviews of generated problems; kept when the result is written again
DATASET_PARTS = frozenset({"data", "tables", "README.md", "dataset_info.json", "report.html"})


def check_directory(directory: Path, inputs: str, *, fresh: bool = False) -> bool:
    """Whether `directory` already holds the dataset made from these inputs.

    Raises InputError if it holds something else: other results (unless `fresh`) or files that are not ours; and
    ExternalError if it cannot be written.
    """
    folder = OutputFolder(directory, DATASET_PARTS | {REVIEWS})
    conflict = "holds the result of other inputs"
    return RECORD in folder.names() and folder.matches(
        RECORD, inputs, fresh=fresh, again="rewrite the result", other=conflict
    )


def begin(directory: Path, inputs: str) -> None:
    """Mark the folder of a dataset as unfinished, removing run.json and the card of an earlier result.

    The card names the version of the data, by which `datasets` would mistake the next result for a cached one.
    """
    publish_file(directory / UNFINISHED, inputs + "\n")
    for name in (RECORD, "README.md"):
        remove_file(directory / name)


def finish(directory: Path, record: dict[str, Any]) -> None:
    """Write run.json of a dataset; the folder is then finished."""
    OutputFolder(directory, DATASET_PARTS).finish(record, ("data/*.parquet", "tables/*.parquet"))
