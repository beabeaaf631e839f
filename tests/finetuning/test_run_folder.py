"""A run folder belongs to one run: finished, it is not trained again, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.console.progress import Progress
from curate.errors import ExternalError, InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.run_folder import RunFolder, read_run
from curate.optimizers import SAM
from curate.storage.folders import check_directory
from curate.storage.records import record_text
from tests.fixtures.finetuning import ROWS, losses, settings, table

# -- whose folder it is ---------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = finetune(table(), settings(model, steps=1), tmp_path / "run")
    file = tmp_path / "run" / "model" / "model.safetensors"
    before = file.stat().st_mtime_ns
    moved = shutil.copytree(model, tmp_path / "moved")  # the same model by another name
    again = settings(str(moved), steps=1, save_every=3, micro_batch_tokens=50, gradient_checkpointing=True)
    assert finetune(table(), again, tmp_path / "run", progress=Progress("lines")) == first
    assert file.stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("unfinished", [False, True])
def test_another_run_does_not_take_its_place(unfinished: bool, model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if unfinished:
        with pytest.raises(ExternalError):
            finetune(table(), settings(model, steps=2), run, time_limit=0)
    else:
        finetune(table(), settings(model, steps=2), run)
    (run / "evaluation").mkdir()
    others: list[tuple[Any, Finetuning, dict[str, Any]]] = [
        (table(), settings(model, steps=2, learning_rate=1e-3), {}),
        (table(), settings(model, steps=2, optimizer=SAM()), {}),
        (table(ROWS - 1), settings(model, steps=2), {}),
        (table(), settings(model, steps=2), {"arm": "other"}),
    ]
    for data, chosen, named in others:
        with pytest.raises(InputError, match="pass --fresh"):
            finetune(data, chosen, run, **named)
    finetune(table(), settings(model, steps=3), run, fresh=True)
    assert len(losses(run)) == 3
    assert not (run / "evaluation").exists()


def test_other_files_are_left_alone(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(InputError, match=r"holds other files \(mine.txt\)"):
            finetune(table(), settings(model), tmp_path, fresh=fresh)
    with pytest.raises(InputError, match="is a file"):
        finetune(table(), settings(model), tmp_path / "mine.txt")


def test_what_another_process_writes_for_a_moment_is_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks look at the folder at once, and each tries whether it can be written."""
    with monkeypatch.context() as patched:
        patched.setattr("curate.storage.places.os.rmdir", lambda place: None)  # as if it were there still
        assert not RunFolder(tmp_path, "a").finished()
    assert len(list(tmp_path.iterdir())) == 1
    assert not RunFolder(tmp_path, "a").finished()
    assert not check_directory(tmp_path, "a")


def test_read_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no fine-tuning run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(record_text({"kind": "expo"}))
    with pytest.raises(InputError, match="not that of a fine-tuning run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(record_text({"kind": "finetune"}))
    with pytest.raises(InputError, match=r"weights .*rerun its `curate finetune` command with --fresh"):
        read_run(tmp_path)


def test_halves_of_checkpoints_are_cleared_when_a_run_goes_on(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ExternalError):
        finetune(table(), settings(model), run, time_limit=0)
    for left in (".step-000002.partial-0-1-ab", ".step-000000.dropped-7", "step-000000"):
        (run / "checkpoints" / left).mkdir()
    with pytest.raises(ExternalError, match="after 2 of 6"):
        finetune(table(), settings(model), run, time_limit=0)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
