"""The folder of a fine-tuning run: ownership, resumable checkpoints and the final record."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import InputError
from curate.storage.atomic import disk_errors, publish_file, publishing, remove
from curate.storage.folders import RECORD, UNFINISHED, OutputFolder
from curate.storage.records import check_files, peek, read_record, record_text

if TYPE_CHECKING:
    from curate.training.checkpoint import Checkpoint

# Files and folders besides the record and its mark.
_PARTS = frozenset(
    {
        *("metrics.jsonl", "model", "adapter", "checkpoints", "evaluation", "diverged.json", "tensorboard", "wandb"),
        *("weights.parquet", "rejected.parquet"),
    }
)
_STEP = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class RunFolder:
    """The folder `out` of the run with the fingerprint `inputs` of data and settings.

    run.json exists if and only if the run has finished. Until then a hidden file marks the folder as that of a run and
    holds the fingerprint of its data and settings.
    """

    out: Path
    inputs: str

    @property
    def _folder(self) -> OutputFolder:
        return OutputFolder(self.out, _PARTS)

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.jsonl"

    def finished(self, *, fresh: bool = False) -> bool:
        """Whether the folder holds this run, finished; with `fresh`, no finished run counts.

        Raises InputError if it holds another run (unless `fresh`) or other files, and ExternalError if it
        cannot be written.
        """
        names = self._folder.names()
        if not names:
            return False
        name = RECORD if RECORD in names else UNFINISHED
        state = "holds" if name == RECORD else "holds the beginning of"
        description = f"{state} a run of other data or settings"
        matches = self._folder.matches(
            name, self.inputs, fresh=fresh, again="train again", other=description, kind="finetune"
        )
        return matches and name == RECORD

    def mark_started(self, *, fresh: bool) -> int:
        """Mark the folder as belonging to this run; returns how often the run was started before."""
        before = 0
        if fresh and self.out.exists():
            self._folder.empty()
        self._remove_leftovers()
        if (self.out / UNFINISHED).exists():
            before = int(peek(self.out / UNFINISHED).get("begun", 0))
        mark = {"kind": "finetune", "inputs": self.inputs, "begun": before + 1}
        publish_file(self.out / UNFINISHED, record_text(mark))
        return before

    def _remove_leftovers(self) -> None:
        """Remove what a killed run left except its newest checkpoint; each leftover is larger than the model."""
        newest, place = self.newest_checkpoint(), self.out / "checkpoints"
        for path in place.iterdir() if place.is_dir() else ():
            if path != newest:
                remove(path)

    def newest_checkpoint(self) -> Path | None:
        """The newest resumable checkpoint."""
        return max(self._checkpoints(), key=_step, default=None)

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep this checkpoint and remove earlier ones."""
        earlier = self._checkpoints()
        target = self.out / "checkpoints" / f"step-{checkpoint.step:06d}"
        with publishing(target) as folder:
            checkpoint.save(folder, frozen=False)
        for path in earlier:
            if path != target:
                self._drop(path)

    def _checkpoints(self) -> list[Path]:
        place = self.out / "checkpoints"
        return [path for path in place.iterdir() if _STEP.fullmatch(path.name)] if place.is_dir() else []

    def _drop(self, path: Path) -> None:
        dropped = path.with_name(f".{path.name}.dropped-{os.getpid()}")
        with disk_errors(path):
            os.replace(path, dropped)  # atomically, so that no run resumes from half of it
        remove(dropped)

    def finalize(self, record: dict[str, Any]) -> None:
        """Write run.json, which marks the run as finished, and remove what was kept for resuming."""
        with disk_errors(self.out):
            (self.out / "diverged.json").unlink(missing_ok=True)
        self._folder.finish({**record, "inputs": self.inputs}, ("weights.parquet", self.metrics.name))
        self.remove_checkpoints()

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of a finished run."""
        remove(self.out / "checkpoints")


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


AGAIN = "rerun its `curate finetune` command with --fresh"  # the remedy if files of a run are lost


def read_run(directory: Path | str) -> dict[str, Any]:
    """The run.json of a finished fine-tuning run. Raises InputError if there is none."""
    directory = Path(directory)
    path = directory / RECORD
    if not path.is_file():
        if (directory / "diverged.json").is_file():
            raise InputError(
                f"the run in {directory} diverged, at the rows that diverged.json names; train it again with --fresh "
                "and a lower learning rate"
            )
        if (directory / UNFINISHED).is_file():
            raise InputError(f"the run in {directory} is not finished; rerun its `curate finetune` command first")
        raise InputError(f"{directory} holds no fine-tuning run (no run.json); name a folder of `curate finetune`")
    record = read_record(path, "remove the folder and rerun its `curate finetune` command, or name another")
    if record.get("kind") != "finetune":
        raise InputError(f"{path} is not that of a fine-tuning run; name a folder that `curate finetune` wrote")
    check_files(directory, record, "rerun its `curate finetune` command with --fresh")
    if not any((directory / name).is_dir() for name in ("model", "adapter")):
        raise InputError(f"{directory} has lost its weights (model/ or adapter/); {AGAIN}")
    return record
