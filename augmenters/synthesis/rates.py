"""Rates of a synthesis: steps of the funnel, results of checks, and kept problems per request and per token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from augmenters.synthesis.checks.registry import CHECKS, OF_PROBLEMS, REASONS
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.variants import SampledSolution, SynthesisSettings, Variant
from curate.generators.requests import Completion


def funnel(settings: SynthesisSettings, variants: Sequence[Variant]) -> list[list[Any]]:
    """[step, number of variants that reached it], up to the last step that the settings have."""
    in_band = sum(bool(variant.drawn) and settings.decide(variant) == "in the band" for variant in variants)
    steps: list[list[Any]] = [
        ["proposals asked for", len(variants)],
        ["proposals written", sum(variant.proposal is not None for variant in variants)],
        ["with a problem", sum(variant.problem is not None for variant in variants)],
        ["past checks and gate", sum(variant.screened for variant in variants)],
        ["kept by the band", in_band],
    ]
    if settings.checks:
        steps.append(["past the checks of solutions", sum(variant.confirmed for variant in variants)])
    if settings.second is not None:
        passed = sum("second_route" in variant.checked and "second_route" not in variant.faults for variant in variants)
        steps.append(["confirmed by a second route", passed])
    return steps


def costs(queue: SynthesisQueue) -> dict[str, Any]:
    """Requests, tokens, time and budget, of both generators if there are two."""
    queues = [one_queue for one_queue in (queue, queue.second) if one_queue is not None]
    refused = queue.refused_parameters
    return {
        "requests": {
            "made": sum(one_queue.made for one_queue in queues),
            "from the store": sum(one_queue.stored for one_queue in queues),
        },
        **({"refused_parameters": dict(sorted(refused.items()))} if refused else {}),
        "tokens": {
            "prompt": sum(one_queue.prompt_tokens for one_queue in queues),
            "generated": sum(one_queue.completion_tokens for one_queue in queues),
            "generated in this run": sum(one_queue.made_tokens for one_queue in queues),
        },
        "seconds": round(queue.seconds, 3),
        "budget": queue.budget,
        "budget_reached": queue.stopped,
        "given_up": queue.hopeless,
    }


def check_rates(settings: SynthesisSettings, variants: Sequence[Variant]) -> dict[str, dict[str, Any]]:
    """Check, or "band" -> its reason, the number of problems checked, the number in which it found a fault, whatever
    other checks found, and the requests and generated tokens that it took; in the order in which they are made."""
    decisions = [settings.decide(variant) for variant in variants if variant.drawn]
    band = {
        "reason": "outside the band",
        "made": sum(decision is not None for decision in decisions),
        "failed": sum(decision not in (None, "in the band") for decision in decisions),
        **_cost(_completions(solution for variant in variants for solution in variant.drawn)),
    }
    second = _completions(solution for variant in variants for solution in variant.second)
    rates: dict[str, dict[str, Any]] = {
        check: {
            "reason": REASONS[check],
            "made": sum(check in variant.checked for variant in variants),
            "failed": sum(check in variant.faults for variant in variants),
            **_cost(second if check == "second_route" else []),
        }
        for check in CHECKS
        if check in settings.checks
    }
    early: dict[str, dict[str, Any]] = {check: rate for check, rate in rates.items() if check in OF_PROBLEMS}
    return {**early, "band": band, **{check: rate for check, rate in rates.items() if check not in early}}


def yields(queue: SynthesisQueue, variants: Sequence[Variant], kept: int) -> dict[str, Any]:
    """Kept problems per request and per 1,000 generated tokens, and requests and tokens by step."""
    stages = {
        "solving parents": [solution.completion for group in queue.groups for solution in group.parent],
        "proposing": [variant.proposal for variant in variants if variant.proposal is not None],
        "solving": _completions(solution for variant in variants for solution in variant.drawn),
        "second route": _completions(solution for variant in variants for solution in variant.second),
    }
    cost = {stage: _cost(listed) for stage, listed in stages.items() if listed}
    requests, tokens = (sum(stage_cost[key] for stage_cost in cost.values()) for key in ("requests", "generated"))
    return {
        "kept": kept,
        "per request": kept / requests if requests else None,
        "per 1,000 generated tokens": 1000 * kept / tokens if tokens else None,
        "cost": cost,
    }


def _cost(completions: Sequence[Completion]) -> dict[str, int]:
    return {
        "requests": len(completions),
        "generated": sum(completion.completion_tokens for completion in completions),
    }


def _completions(solutions: Iterable[SampledSolution]) -> list[Completion]:
    return [solution.completion for solution in solutions]
