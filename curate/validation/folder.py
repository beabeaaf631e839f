"""The folder of a validation: whose it is, and what may not change between two calls."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from curate.component import fingerprint
from curate.errors import InputError
from curate.publish import check_place, disk_errors, publish_file
from curate.readers import Loaded
from curate.scores import Scores
from curate.validation.settings import Validation

__all__ = ["check_folder", "claim"]

_MARK = "validation.json"  # says whose folder this is from the first moment on
_OURS = {_MARK, "arms", "runs", "questions", "held-out", "scratch", "run.json", "comparison.json", "report.html"}


def check_folder(out: Path, settings: Validation, loaded: Loaded, scores: Scores | None, *, fresh: bool) -> None:
    """Raise InputError for a folder that holds anything but this validation (with `fresh`: any validation)."""
    check_place(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    names = {path.name for path in out.iterdir() if ".partial-" not in path.name} if out.is_dir() else set()
    foreign = sorted(names - _OURS) if _MARK in names else sorted(names)
    if foreign:
        raise InputError(f"--out {out} holds other files ({foreign[0]}); name a new or empty folder")
    if _MARK not in names or fresh:
        return
    try:
        before = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{out / _MARK} is not readable ({error}); pass --fresh to begin anew") from error
    described = _described(settings, loaded, scores)
    changed = [name for name, value in described.items() if before.get(name) != value]
    if changed:
        raise InputError(
            f"--out {out} holds a validation with another {' and another '.join(changed)}; name another folder, or "
            "pass --fresh to begin anew (more seeds, arms and evaluation sets need neither)"
        )


def claim(out: Path, settings: Validation, loaded: Loaded, scores: Scores | None, *, fresh: bool) -> None:
    """Mark `out` as that of this validation, after the same checks; with `fresh` what it held goes."""
    check_folder(out, settings, loaded, scores, fresh=fresh)
    if fresh and out.exists():
        _empty(out)
    with disk_errors(out):
        (out / "run.json").unlink(missing_ok=True)  # until every run asked for is there again
    mark = {"kind": "validation", **_described(settings, loaded, scores)}
    publish_file(out / _MARK, json.dumps(mark, indent=1) + "\n")


def _described(settings: Validation, loaded: Loaded, scores: Scores | None) -> dict[str, str]:
    """Fingerprints of what may not change between two calls of one validation, by name."""
    examples = loaded.examples
    given = None if scores is None else [scores.difficulty, scores.valid]
    held_out = None if settings.sets else settings.held_out
    return {
        "dataset": fingerprint([examples.fingerprint(), examples.table_fingerprint(), held_out]),
        "recipe": fingerprint([settings.pipeline, given, settings.drop_contaminated]),
        "fine-tuning": fingerprint([settings.finetuning.decisive(), settings.epochs, settings.rho]),
        "evaluation": fingerprint(settings.evaluation),
    }


def _empty(out: Path) -> None:
    """Remove an earlier validation, its mark last, so that what is left of it is still known as one."""
    with disk_errors(out):
        for name in [*sorted(_OURS - {_MARK}), _MARK]:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
