"""Cost of making the data of an arm, including cached parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.console.progress import StageCost
from curate.curated import Curated
from curate.proxy.measures import passes_of
from curate.run import measures_of


def curation_cost(
    curated: Curated, costs: Sequence[StageCost], seconds: float, *, proxy: bool = True
) -> dict[str, Any]:
    """{seconds, tokens, proxy_parameters, requests, generated_tokens, cached}; None = unknown.

    costs, seconds: of this process. proxy: whether the cost recorded in the proxy's cache entry is included.
    """
    facts = curated.proxy_facts or {}
    trained = [cost for cost in costs if cost.name == "train the proxy"]
    measured = sum(cost.tokens for cost in costs if cost.name == "measure")
    tokens: int | None = sum(cost.tokens for cost in trained) + measured
    total_seconds: float | None = seconds
    if curated.given_scores:
        tokens = total_seconds = None
    elif facts and proxy:
        tokens, total_seconds = _through_proxy(curated, facts, trained, measured, seconds)
    records = [part.summary.record for part in curated.realized if part.summary.record]
    return {
        "seconds": None if total_seconds is None else round(total_seconds, 3),
        "tokens": tokens,
        "proxy_parameters": facts.get("parameters"),
        "requests": sum(sum(map(int, record.get("requests", {}).values())) for record in records),
        "generated_tokens": sum(int(record["tokens"]["generated"]) for record in records),
        "cached": bool(facts) and not trained,
    }


def _through_proxy(
    curated: Curated, facts: dict[str, Any], trained: Sequence[StageCost], measured: int, seconds: float
) -> tuple[int | None, float | None]:
    """Tokens and seconds as if no part of the proxy run had been cached."""
    pipeline = curated.pipeline
    seeds = pipeline.stability
    per_pass, tokens_trained, in_steps = (facts.get(n) for n in ("tokens_per_pass", "tokens_trained", "seconds"))
    # Only the first seed's proxy is recorded here.
    if per_pass is None or tokens_trained is None or in_steps is None or (seeds > 1 and len(trained) < seeds):
        return None, None
    rows, checkpoints = len(curated.scores), len(facts["steps"])
    passes = seeds * sum(passes_of(measure, rows, checkpoints) for measure in measures_of(pipeline.scorer))
    through = int(passes * per_pass)
    tokens = (tokens_trained if seeds == 1 else sum(cost.tokens for cost in trained)) + max(through, measured)
    if measured < through:
        return tokens, None  # the time of the rest was not recorded
    seconds_here = trained[0].seconds if trained else 0.0
    return tokens, seconds + max(in_steps - seconds_here, 0.0)


def added(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The sum of both costs; a proxy that the second took from the first counts once."""
    summed = ("seconds", "tokens", "requests", "generated_tokens")
    return {**first, **{n: None if None in (first[n], second[n]) else first[n] + second[n] for n in summed}}
