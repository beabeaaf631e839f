"""Which training rows an arm repeats: the library's own pipeline, with the proxy of the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augmenters import Duplicate
from benchmarks.reproduction.preparation import Prepared
from benchmarks.reproduction.settings import BALANCED, BASELINE, ORACLE, Job
from curate import Pipeline, Proxy
from curate.clusterers import KMeans
from curate.mixture.control_rows import evened
from curate.seeds import derive_seed
from scorers import LossTrajectory


def chosen_rows(job: Job, prepared: Prepared, cache: Path) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
    """Positions of the arm's rows in the training rows, copies included, and facts about the choice.

    The proxy runs once per seed. Every arm but the original has as many rows; what is drawn at random is drawn anew for
    every seed.
    """
    table = prepared.training.examples.table
    n, levels = table.num_rows, np.array(table["level"].to_pylist())
    if job.of == BASELINE:
        return np.arange(n), {}
    curated = _pipeline(job, prepared).run(prepared.training, cache=cache, device="cpu")
    counts, hard, proxy = curated.plan.counts, curated.split.hard, curated.proxy_facts or {}
    if job.of == ORACLE:
        counts = 1 + _highest_levels(levels, int(counts.sum()) - n, job.seed)
    if job.of == BALANCED:
        counts = 1 + evened(table["source"].to_pylist(), int(counts.sum()) - n, derive_seed(job.seed, BALANCED))
    measured = int(curated.scores.tokens.sum()) if curated.scores.tokens is not None else 0
    facts = {
        "hard_share": round(float(hard.mean()), 4),
        "hard_share_by_level": by_level(hard, levels),
        "extra_rows": int(counts.sum()) - n,
        "extra_copies_by_level": by_level(counts - 1, levels),
        "proxy_parameters": proxy.get("parameters"),
        "proxy_steps": proxy.get("steps"),
        "tokens": (proxy.get("tokens_trained") or 0) + measured * job.settings.checkpoints,
    }
    return np.repeat(np.arange(n), counts), facts


def _highest_levels(levels: npt.NDArray[Any], count: int, seed: int) -> npt.NDArray[np.int64]:
    """1 for `count` of the rows, those of the highest levels (n,), drawn at random where a level is taken in part."""
    shuffled = np.random.default_rng(derive_seed(seed, "reproduction", ORACLE)).permutation(len(levels))
    highest = shuffled[np.argsort(levels[shuffled], kind="stable")[::-1]]
    chosen = np.zeros(len(levels), np.int64)
    chosen[highest[:count]] = 1
    return chosen


def by_level(values: npt.NDArray[Any], levels: npt.NDArray[Any]) -> dict[str, float]:
    """Mean of `values` (n,) for each of `levels` (n,)."""
    return {level: round(float(values[levels == level].mean()), 5) for level in np.unique(levels).tolist()}


def _pipeline(job: Job, prepared: Prepared) -> Pipeline:
    settings = job.settings
    of = "hard" if job.of in (ORACLE, BALANCED) else job.of
    proxy = Proxy(
        model=str(prepared.proxy),
        steps=settings.proxy_steps,
        min_steps=settings.proxy_min_steps,
        checkpoints=settings.checkpoints,
        learning_rate=settings.proxy_learning_rate,
        batch_size=settings.proxy_batch_size,
        max_length=settings.max_length,
        template="plain",
        precision="float32",
    )
    return Pipeline(
        proxy=proxy,
        scorer=LossTrajectory(features=settings.features),
        clusterer=KMeans(per="source" if settings.per_source else None),
        augmenters=(Duplicate.model_validate({"times": settings.times, "of": of}),),
        seed=job.seed,
    )
