"""Output folders: what a command may write into, and when what is there is finished.

Everything is written aside and renamed; run.json comes last, so a folder with run.json is a finished one. Until then
a mark says whose folder it is: without one, a folder that holds data/ and README.md may be anybody's dataset.
"""

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
    """A folder of --out that one kind of command writes.

    parts: names of what the command writes there, the record and the marks apart. marks: names any of which says that
    the folder was written by this kind of command; the last one is the last that `empty` removes.
    """

    path: Path
    parts: frozenset[str]
    marks: tuple[str, ...] = (RECORD, UNFINISHED)

    def names(self) -> set[str]:
        """What the folder holds, empty where there is none; files that are being written aside do not count.

        Raises InputError for a file, or a folder with anything that this command did not write; ExternalError where
        it cannot be written.
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
        """Whether the record `name` is of these inputs, and the files it describes are unchanged.

        False where `fresh` may replace it. again: what --fresh does here; other: what the folder holds otherwise, both
        for messages. kind: of the record. Raises InputError for a record of other inputs, damaged or of another kind.
        """
        claimed = peek(self.path / name)
        ours = isinstance(claimed.get("inputs"), str) and (kind is None or claimed.get("kind") == kind)
        if ours and fresh:
            return False
        remedy = f"pass --fresh to {again}" if ours else "name another folder, or remove this one"
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
        """Write run.json, with checksums of the files that match a pattern, after which the folder is finished."""
        text = record_text({**record, "files": file_checksums(self.path, patterns)})
        publish_file(self.path / UNFINISHED, text)
        with disk_errors(self.path):
            os.replace(self.path / UNFINISHED, self.path / RECORD)
            sync(self.path)


REVIEWS = "reviews.jsonl"  # what people said of new problems; stays when the result is written anew
DATASET_PARTS = frozenset({"data", "tables", "README.md", "dataset_info.json", "report.html"})


def check_directory(directory: Path, inputs: str, *, fresh: bool = False) -> bool:
    """Whether `directory` already holds the dataset made of these inputs.

    Raises InputError if it holds something else: other results (unless `fresh`) or files that are not ours; and
    ExternalError if it cannot be written.
    """
    folder = OutputFolder(directory, DATASET_PARTS | {REVIEWS})
    other = "holds the result of other inputs"
    return RECORD in folder.names() and folder.matches(
        RECORD, inputs, fresh=fresh, again="write the result anew", other=other
    )


def begin(directory: Path, inputs: str) -> None:
    """Mark the folder of a dataset as ours; an earlier result is no longer a finished one.

    Its card goes too: it names the version of the data, and `datasets` would take what comes next for what it knows.
    """
    publish_file(directory / UNFINISHED, inputs + "\n")
    for name in (RECORD, "README.md"):
        remove_file(directory / name)


def finish(directory: Path, record: dict[str, Any]) -> None:
    """Write run.json of a dataset, after which the folder is finished."""
    OutputFolder(directory, DATASET_PARTS).finish(record, ("data/*.parquet", "tables/*.parquet"))
