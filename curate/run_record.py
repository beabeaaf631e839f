"""Records of a run, for run.json: inputs, data, counts and cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc

from curate.component import fingerprint
from curate.console.progress import Progress
from curate.data.readers import Loaded
from curate.difficulty.scores import Scores, Split
from curate.errors import InputError
from curate.gate import Gate
from curate.generators.requests import Generator
from curate.mixture.mixture import Copies, Mixture, Order
from curate.mixture.plan import Plan, Realized
from curate.models.loading import identify
from curate.proxy.proxy import Proxy
from curate.run import MeasuringScorer
from curate.storage.hashing import file_digest
from curate.storage.places import expanded, files_under


class Recipe(Protocol):
    """The parameters of a pipeline that records name."""

    @property
    def proxy(self) -> Proxy: ...
    @property
    def scorer(self) -> Any: ...
    @property
    def clusterer(self) -> Any: ...
    @property
    def augmenters(self) -> Sequence[Any]: ...
    @property
    def order(self) -> Order: ...
    @property
    def copies(self) -> Copies: ...
    @property
    def gate(self) -> Gate: ...
    @property
    def stability(self) -> int: ...
    @property
    def seed(self) -> int: ...
    def to_yaml(self) -> str: ...


def inputs_fingerprint(pipeline: Recipe, loaded: Loaded, scores: Scores | None) -> str:
    """What decides the output of a run: data, recipe, files of a local proxy, measures and, where given, scores.

    A measure holds the content of what its scorer only names, such as a target set or a reference model.
    scores: in the order of the rows, see `curate.difficulty.split.join_scores`.
    """
    loaded = loaded.as_read or loaded  # rows that turned out unusable are decided by the rest
    examples = loaded.examples
    decided_by = [examples.fingerprint(), examples.table_fingerprint(), loaded.rejected, pipeline]
    decided_by += [_files(getattr(augmenter, "data", None)) for augmenter in pipeline.augmenters]
    decided_by += [_identity(getattr(augmenter, "generator", None)) for augmenter in pipeline.augmenters]
    sets = [item.get("data") if isinstance(item, dict) else item for item in pipeline.gate.evaluation]
    decided_by += [_files(data) for data in sets]
    if scores is not None:
        decided_by += [scores.difficulty, scores.features, scores.valid, scores.trajectory, scores.tokens]
    elif isinstance(pipeline.scorer, MeasuringScorer):
        decided_by += pipeline.scorer.measures()
        if expanded(pipeline.proxy.model).exists():
            decided_by.append(identify(pipeline.proxy.model))
    return fingerprint(decided_by)


def _files(data: Any) -> str | None:
    """Content of the local file or folder that an augmenter reads; None for a hub id or an object in memory."""
    if not isinstance(data, str | Path) or not expanded(data).exists():
        return None
    path = expanded(data)
    files = [path] if path.is_file() else sorted(files_under(path))
    return file_digest((file, file.name) for file in files)


def _identity(generator: Any) -> str | None:
    """The model of an augmenter that has one, a local one by its content."""
    return generator.identity() if isinstance(generator, Generator) else None


def data_record(loaded: Loaded, key: str) -> dict[str, Any]:
    """Which rows were read and how. key: fingerprint of the examples."""
    examples = loaded.examples
    return {
        "source": loaded.description,
        "rows_read": loaded.rows_read,
        "rows_used": len(examples),
        "shape": examples.shape,
        "columns": dict(examples.columns),
        "notes": list(loaded.notes),
        "fingerprint": key,
    }


def recipe_text(pipeline: Recipe) -> str:
    """The recipe as YAML, or why it cannot be written down."""
    try:
        return str(pipeline.to_yaml())
    except InputError as error:  # a plug-in may live where no recipe can name it; the run is still recorded
        return f"# {error}\n"


def _new_tokens(part: Realized) -> int:
    """Completion tokens of new rows, where they were counted."""
    measured = part.rows.measured
    return 0 if measured is None or measured.tokens is None else int(measured.tokens.sum())


def count_rows(
    mixture: Mixture, scores: Scores, split: Split, plan: Plan, realized: Sequence[Realized], rejected: int
) -> dict[str, int]:
    """Rows before and after, by kind; and tokens, where the scores know them. rejected: rows that were left out."""
    origins = mixture.columns().column("origin")
    by_origin = {each["values"].as_py(): each["counts"].as_py() for each in pc.value_counts(origins)}
    counts = {
        "input": len(split),
        "valid": int(split.valid.sum()),
        "invalid": int((~split.valid).sum()),
        "hard": int(split.hard.sum()),
        "easy": int((split.valid & ~split.hard).sum()),
        "noise": int((split.cluster == -1).sum()),
        "rejected": rejected,
        "output": len(mixture),
        **{name: int(by_origin.get(name, 0)) for name in ("original", "duplicate", "replay", "synthetic")},
    }
    weighted = mixture.copies == "weights"
    if weighted:
        counts["output_weighted"] = int(mixture.weights.sum(dtype=np.float64))
    if scores.tokens is not None:
        tokens, new = scores.tokens.astype(np.int64), sum(map(_new_tokens, realized))
        counts["tokens_before"] = int(tokens.sum())
        counts["tokens_after"] = int((tokens * (plan.counts > 0 if weighted else plan.counts)).sum()) + new
        if weighted:
            counts["tokens_weighted"] = int((tokens * plan.counts).sum()) + new
    return counts


def cost_record(progress: Progress) -> dict[str, Any]:
    """Seconds and tokens of every stage so far, and of all of them."""
    stages = [
        {"name": each.name, "seconds": round(each.seconds, 3), "tokens": each.tokens, "cached": each.cached}
        for each in progress.costs
    ]
    return {"stages": stages, "seconds": round(sum(each.seconds for each in progress.costs), 3)}
