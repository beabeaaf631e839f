"""Output folder of a validation, and the settings that may not change between calls."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from curate.component import fingerprint
from curate.data.readers import Loaded
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.models.loading import identify
from curate.models.scratch import scratch_identity
from curate.storage.atomic import publish_file, remove_file
from curate.storage.folders import RECORD, OutputFolder
from curate.storage.records import read_record, record_text
from curate.validation.config import Validation, synthesizing
from curate.validation.evaluation_rows import Prepared

_MARK = "validation.json"  # marks the folder from the start
_FIXED = ("dataset", "recipe", "model", "fine-tuning", "evaluation")
_BY_SETS = {
    "rows left": "with these --drop-contaminated leaves out other rows",
    "questions": "no row that its recipe writes may contain a question of any of them",
}
_PARTS = frozenset({"arms", "runs", "questions", "held-out", "scratch", "comparison.json", "report.html", "pilot.json"})


def describe(settings: Validation, loaded: Loaded, scores: Scores | None) -> dict[str, Any]:
    """Fingerprints of the settings that may not change between two calls of one validation, by name.

    Raises InputError for a model that does not exist, ExternalError if the hub cannot be reached.
    """
    examples, tuning = loaded.examples, settings.finetuning
    scored = None if scores is None else [scores.difficulty, scores.valid]
    held_out = None if settings.sets else settings.held_out
    trained = {**tuning.decisive(), "epochs": settings.epochs, "rho": settings.rho}
    identity = (
        scratch_identity(examples.fingerprint(), tuning.max_length, 0)
        if tuning.scratch
        else identify(tuning.model, tuning.revision)
    )
    return {
        "dataset": fingerprint([examples.fingerprint(), examples.table_fingerprint(), held_out]),
        "recipe": fingerprint([settings.pipeline, scored, settings.drop_contaminated]),
        "model": {"name": tuning.model, "revision": tuning.revision, "identity": identity},
        "fine-tuning": {name: fingerprint(value) for name, value in trained.items()},
        "evaluation": fingerprint(settings.evaluation),
    }


def describe_sets(settings: Validation, prepared: Prepared) -> dict[str, Any]:
    """Descriptions that depend on the evaluation sets, compared with those of the earlier call."""
    described: dict[str, Any] = {"sets": prepared.questions}
    if settings.drop_contaminated:
        described["rows left"] = prepared.loaded.examples.fingerprint()
    if synthesizing(settings.pipeline):
        described["questions"] = fingerprint(sorted(prepared.questions.items()))
    return described


def check_folder(out: Path, described: dict[str, Any], *, fresh: bool) -> None:
    """Raise InputError for a folder that holds anything but this validation (with `fresh`: any validation)."""
    if _MARK not in _folder(out).names() or fresh:
        return
    before = _mark(out)
    remedy = "name another folder, or pass --fresh to start over"
    changed = [_difference(name, before.get(name), described[name]) for name in _FIXED if name in described]
    differing = [change for change in changed if change]
    if differing:
        raise InputError(
            f"--out {out} holds a validation with another {' and another '.join(differing)}; {remedy} (more seeds, "
            "arms and evaluation sets need neither)"
        )
    for name, reason in _BY_SETS.items():
        if name in described and before.get(name) != described[name]:
            raise InputError(f"--out {out} holds a validation with other evaluation sets, and {reason}; {remedy}")
    for name, value in described.get("sets", {}).items():
        if before.get("sets", {}).get(name, value) != value:
            raise InputError(
                f"--out {out} holds a validation with other questions in evaluation set {name!r}; write NAME=DATA for "
                f"another name, {remedy}"
            )


def check_weights(out: Path, settings: Validation, sets: Iterable[str]) -> None:
    """Raise InputError if a finished run of `settings` must be evaluated again but its weights are gone."""
    names = list(sets)
    for arm, budget, seed in product(settings.named_arms(), settings.budgets, settings.seeds):
        run = out / "runs" / f"{arm}-{budget}-seed{seed}"
        if not (run / "run.json").is_file() or weights(run):
            continue
        for name in names:
            if not (run / "evaluation" / name / "summary.json").is_file():
                raise InputError(
                    f"evaluation set {name}: the weights of {run} were deleted by --drop-weights, so it cannot be "
                    "evaluated on it; leave the set out, or start over in another folder without --drop-weights"
                )


def mark_started(out: Path, described: dict[str, Any], *, fresh: bool) -> None:
    """Mark `out` as the folder of this validation, after the same checks; `fresh` empties it first."""
    check_folder(out, described, fresh=fresh)
    if fresh and out.exists():
        _folder(out).empty()
    remove_file(out / RECORD)  # written again when every requested run is finished
    before = _mark(out).get("sets", {}) if (out / _MARK).exists() else {}
    mark = {"kind": "validation", **described, "sets": {**before, **described["sets"]}}
    publish_file(out / _MARK, record_text(mark))


def weights(run: Path) -> list[Path]:
    """The files of a run that hold weights."""
    return [*run.glob("model/*.safetensors"), *run.glob("adapter/*.safetensors")]


def _folder(out: Path) -> OutputFolder:
    return OutputFolder(out, _PARTS, marks=(_MARK,))


def _mark(out: Path) -> dict[str, Any]:
    """The mark of the validation that a folder belongs to."""
    return read_record(out / _MARK, "pass --fresh to start over", "validation")


def _difference(name: str, before: Any, now: Any) -> str | None:
    """The name of a part that changed; None if it did not."""
    if before == now:
        return None
    if name == "fine-tuning" and isinstance(before, dict):
        return f"{name} ({', '.join(sorted(n for n in {*before, *now} if before.get(n) != now.get(n)))})"
    if name != "model":
        return name
    before = before or {}
    if before.get("identity") == now["identity"]:
        return None
    return f"model ({_called(before)}, now {_called(now)})"


def _called(model: dict[str, Any]) -> str:
    revision = model.get("revision")
    return f"{model.get('name', 'unknown')}{f' at {revision}' if revision else ''}"
