"""Extrapolate by several alphas, evaluate each, and choose the best."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.console.progress import Progress
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import EvaluationResult, totals
from curate.expo.extrapolation import Dtype, check_alpha, write_model
from curate.expo.sources import Models
from curate.storage.atomic import publish_file
from curate.storage.cache import Cache
from curate.storage.places import check_place
from curate.storage.records import record_text

Metric = Literal["accuracy", "nll"]
RECORD = "sweep.json"
_OWN_FILES = re.compile(rf"alpha-\S+|evaluation|{re.escape(RECORD)}|\..*\.partial-.*")


def sweep(
    models: Models,
    alphas: Sequence[float],
    out: Path,
    *,
    sets: Sequence[EvaluationSet] = (),
    settings: Evaluation | None = None,
    by: Metric | None = None,
    dtype: Dtype | None = None,
    cache: Cache | Path | str | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write out/alpha-A for each alpha and evaluate it; returns out/sweep.json.

    models: see `curate.expo.sources.open_models`. sets: with any, the tuned model itself (alpha 0) is evaluated too,
    and the alpha of best `by` over the rows of all sets together is named; None = accuracy where answers are drawn,
    else nll. The choice fits these rows: what it gains must be measured on others. Evaluations are in
    out/evaluation/alpha-A; finished ones are not repeated.
    Raises InputError for alphas that round to the same name, a folder of other files, and as `extrapolate` and
    `evaluate` do.
    """
    alphas = sorted({check_alpha(alpha) for alpha in alphas})
    if len({_folder_name(alpha) for alpha in alphas}) < len(alphas):
        raise InputError("two of the alphas differ by less than one in a million; give fewer digits")
    check_place(out / "x")
    foreign = sorted(path.name for path in out.iterdir() if not _OWN_FILES.fullmatch(path.name)) if out.is_dir() else []
    if foreign:
        raise InputError(f"--out {out} holds other files ({foreign[0]}); name a new or empty folder")
    if settings is not None and by == "accuracy" and not settings.generate:
        raise InputError("the best accuracy is asked for, but no answers are drawn; choose by nll")
    if settings is not None and by == "nll" and not settings.nll:
        raise InputError("the best nll is asked for, but nothing is scored; choose by accuracy")
    if sets and models.tuned.factors and models.template is None:
        alphas = sorted({0.0, *alphas})  # an adapter outside a run can be evaluated only as a whole model
    points = []
    for alpha in sorted({0.0, *alphas}) if sets else alphas:
        point: dict[str, Any] = {"alpha": alpha, "model": None}
        if alpha in alphas:
            place = out / _folder_name(alpha)
            summary = write_model(models, alpha, place, dtype=dtype, fresh=fresh, progress=progress)
            point |= {"model": place.name, "norm_change": summary["norm_change"], "norm_tuned": summary["norm_tuned"]}
        if sets:
            target, adapted = _asked(models, point["model"] and out / point["model"], settings)
            place = out / "evaluation" / _folder_name(alpha)
            point |= _metrics(
                evaluate(target, sets, adapted, out=place, fresh=fresh, cache=cache, device=device, progress=progress)
            )
        points.append(point)
    record = {
        "kind": "expo-sweep",
        "tuned": {"name": models.tuned.title, "identity": models.identities[0]},
        "base": {"name": models.base.title, "identity": models.identities[1]},
        "points": points,
        **_best(points, by),
    }
    publish_file(out / RECORD, record_text(record))
    return record


def _folder_name(alpha: float) -> str:
    """Folder name of the model with this alpha."""
    return f"alpha-{alpha:g}"


def _asked(models: Models, place: Path | None, settings: Evaluation | None) -> tuple[str, Evaluation]:
    """Target and settings of an evaluation, with the template of the tuned run, which its extrapolations lack."""
    settings = settings or Evaluation()
    automatic = settings.style == "auto" and settings.template is None
    if automatic and models.template in ("alpaca", "plain"):
        settings = settings.model_copy(update={"style": "template", "template": models.template})
    elif automatic and models.template == "chat":
        settings = settings.model_copy(update={"style": "chat"})
    if place is None:
        return models.tuned.title, settings
    return str(place), settings.model_copy(update={"revision": None})


def _metrics(results: Mapping[str, EvaluationResult]) -> dict[str, Any]:
    """Accuracy and nll of each set, and over the rows of all sets."""
    names = ("rows", "accuracy", "nll")
    sets = {name: {key: result.summary[key] for key in names} for name, result in results.items()}
    pooled = totals(pa.concat_tables([result.rows for result in results.values()]))
    return {"sets": sets, **{key: pooled[key] for key in names}}


def _best(points: list[dict[str, Any]], metric: Metric | None) -> dict[str, Any]:
    if not points or "sets" not in points[0]:
        return {"by": None, "best": None}
    metric = metric or ("accuracy" if points[0]["accuracy"] is not None else "nll")
    if any(point[metric] is None for point in points):
        raise InputError(
            f"no row could be graded or scored, so no alpha is best by {metric}; look at the evaluation set"
        )
    sign = -1 if metric == "accuracy" else 1
    # Among equals, the one nearest to the tuned model.
    return {"by": metric, "best": min(points, key=lambda point: (sign * point[metric], abs(point["alpha"])))["alpha"]}
