"""What making the data of an arm took, also where an earlier process did part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.console.progress import StageCost
from curate.curated import Curated
from curate.proxy.measures import passes_of
from curate.run import MeasuringScorer

__all__ = ["added", "curation_cost"]


def curation_cost(
    curated: Curated, costs: Sequence[StageCost], seconds: float, *, proxy: bool = True
) -> dict[str, Any]:
    """{seconds, tokens, proxy_parameters, requests, generated_tokens, cached}; what is not known is None.

    costs, seconds: of this process. proxy: whether what its cache entry says is part of the cost.
    """
    facts = curated.proxy_facts or {}
    trained = [cost for cost in costs if cost.name == "train the proxy"]
    measured = sum(cost.tokens for cost in costs if cost.name == "measure")
    tokens: int | None = sum(cost.tokens for cost in trained) + measured
    known: float | None = seconds
    if curated.given_scores:
        tokens = known = None
    elif facts and proxy:
        tokens, known = _through_proxy(curated, facts, trained, measured, seconds)
    written = [part.summary.record for part in curated.realized if part.summary.record]
    return {
        "seconds": None if known is None else round(known, 3),
        "tokens": tokens,
        "proxy_parameters": facts.get("parameters"),
        "requests": sum(sum(map(int, record.get("requests", {}).values())) for record in written),
        "generated_tokens": sum(int(record["tokens"]["generated"]) for record in written),
        "cached": bool(facts) and not trained,
    }


def _through_proxy(
    curated: Curated, facts: dict[str, Any], trained: Sequence[StageCost], measured: int, seconds: float
) -> tuple[int | None, float | None]:
    """Tokens and seconds as if nothing of the proxy run had been in the cache."""
    pipeline = curated.pipeline
    seeds = pipeline.stability
    per_pass, tokens_trained, in_steps = (facts.get(n) for n in ("tokens_per_pass", "tokens_trained", "seconds"))
    # Only of the first seed's proxy is there a record here.
    if per_pass is None or tokens_trained is None or in_steps is None or (seeds > 1 and len(trained) < seeds):
        return None, None
    measures = pipeline.scorer.measures() if isinstance(pipeline.scorer, MeasuringScorer) else ()
    passes = seeds * sum(passes_of(each, len(curated.scores), len(facts["steps"])) for each in measures)
    through = int(passes * per_pass)
    tokens = (tokens_trained if seeds == 1 else sum(cost.tokens for cost in trained)) + max(through, measured)
    if measured < through:
        return tokens, None  # nobody wrote down how long the rest took
    here = trained[0].seconds if trained else 0.0
    return tokens, seconds + max(in_steps - here, 0.0)


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The cost of both; that of the proxy, which the second had from the first, stands once."""
    summed = ("seconds", "tokens", "requests", "generated_tokens")
    return {**one, **{n: None if None in (one[n], other[n]) else one[n] + other[n] for n in summed}}
