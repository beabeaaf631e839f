"""Record of a synthesis: counts, settings, cost and warnings, and a table of all variants."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from augmenters.synthesis.new_rows import new_id
from augmenters.synthesis.rates import check_rates, costs, funnel, yields
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.run_warnings import run_warnings
from augmenters.synthesis.source_rows import SourceRows
from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import KEPT, SynthesisSettings, Variant
from curate.generators.requests import Sampling, prompt_digest
from curate.mixture.plan import Demand, Screened, Summary
from curate.verify import Verdict

_ATTEMPTS = pa.schema(
    [
        ("example_id", pa.string()),  # of the new row; null if there is none
        ("source_id", pa.string()),
        ("variant", pa.int32()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("parent_problem", pa.string()),
        ("problem", pa.string()),
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("drawn", pa.int32()),
        ("right", pa.int32()),
        ("wrong", pa.int32()),
        ("undecided", pa.int32()),
        ("verdicts", pa.list_(pa.string())),
        ("second_verdicts", pa.list_(pa.string())),
        ("failed_checks", pa.list_(pa.string())),
        ("difference", pa.float32()),  # from the parent, beyond names and numbers
        ("parent_right", pa.int32()),  # of the generator's solutions of the parent; null if none was drawn
        ("completion_tokens", pa.int64()),
        ("generator", pa.string()),
        ("prompt_digest", pa.string()),
        ("sampling", pa.string()),
        ("seed", pa.int64()),
        ("proposal_request", pa.string()),
        ("solution_prompt_digest", pa.string()),
        ("solution_sampling", pa.string()),
        ("solution_seed", pa.int64()),
        ("solution_requests", pa.list_(pa.string())),
        ("rescored_hard", pa.bool_()),
        ("difficulty", pa.float32()),
    ]
)


def summarize(
    settings: SynthesisSettings,
    demand: Demand,
    sources: SourceRows,
    queue: SynthesisQueue,
    name: str,
    sandbox: list[str] | None,
    screened: Screened,
) -> Summary:
    """The content of run.json and tables/synthesis.parquet for a finished synthesis.

    name: of the generator. sandbox: layers around programs, see `curate.verify.sandbox_child`; None if none was run.
    screened: outcome of the new rows afterwards.
    """
    record = _record(settings, demand, sources, queue, name, sandbox, screened)
    attempts = [
        _attempt(group, variant, queue.model, name, screened) for group in queue.groups for variant in group.variants
    ]
    return Summary(record, pa.Table.from_pylist(attempts, _ATTEMPTS), run_warnings(record))


def rejected_variants(groups: Sequence[VariantGroup]) -> list[dict[str, Any]]:
    """The variants that did not become rows, for tables/rejected.parquet."""
    return [
        {
            "example_id": new_id(group, variant),
            "stage": "synthesize",
            "reason": variant.outcome if variant.detail is None else f"{variant.outcome} ({variant.detail})",
            "content": variant.problem or (variant.proposal.text if variant.proposal else None),
        }
        for group in groups
        for variant in group.variants
        if variant.outcome != KEPT
    ]


def _outcome(group: VariantGroup, variant: Variant, screened: Screened) -> tuple[str | None, str | None]:
    """(outcome, detail) of a variant after screening."""
    own = variant.outcome, variant.detail
    return screened.left_out.get(new_id(group, variant), own) if variant.outcome == KEPT else own


def _record(
    settings: SynthesisSettings,
    demand: Demand,
    sources: SourceRows,
    queue: SynthesisQueue,
    name: str,
    sandbox: list[str] | None,
    screened: Screened,
) -> dict[str, Any]:
    pairs = [(group, variant) for group in queue.groups for variant in group.variants]
    variants = [variant for _, variant in pairs]
    outcomes = Counter(str(_outcome(*pair, screened)[0]) for pair in pairs)
    solved = [variant for variant in variants if variant.drawn]
    band = settings.band
    verdicts = Counter(solution.verdict for variant in variants for solution in variant.drawn)
    assert demand.rows is not None
    return {
        "generator": name,
        "of": getattr(demand.augmenter, "of", None),
        "band": [band.low, band.high, band.samples],
        "variants_per_row": settings.variants,
        "variation_prompt": prompt_digest(settings.variation_prompt),
        "solution_prompt": prompt_digest(settings.solution_prompt),
        "rows": {
            "chosen": len(demand.rows) + demand.suspects + demand.unsampled + demand.irreducible,
            "marked by the noise guard": demand.suspects,
            **({"not reducible": demand.irreducible} if demand.irreducible else {}),
            "not in the sample": demand.unsampled,
            **dict(sorted(sources.skipped.items())),
            "started from": len(sources.rows),
        },
        "funnel": [*funnel(settings, variants), ["kept", outcomes[KEPT]]],
        "strategy": settings.strategy,
        "context": settings.context,
        "checks": check_rates(settings, variants),
        "yield": yields(queue, variants, outcomes[KEPT]),
        "outcomes": dict(sorted(outcomes.items())),
        "right_of_drawn": _histogram(solved),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict},
        **costs(queue),
        "sandbox": sandbox,
        **screened.record,
    }


def _histogram(solved: Sequence[Variant]) -> list[list[int]]:
    """[right, drawn, number of variants] for every pair that occurs."""
    pairs = Counter((variant.count(Verdict.right), len(variant.drawn)) for variant in solved)
    return [[right, sampled, count] for (right, sampled), count in sorted(pairs.items())]


def _attempt(group: VariantGroup, variant: Variant, model: str, name: str, screened: Screened) -> dict[str, Any]:
    new_row = new_id(group, variant) if variant.outcome == KEPT else None
    outcome, detail = _outcome(group, variant, screened)
    rescored_hard, difficulty = screened.measured.get(new_row or "", (None, None))
    solution = variant.solution
    wrote, solved_by = variant.request, variant.drawn[0].request if variant.drawn else None
    return {
        "example_id": new_row,
        "source_id": group.source.example_id,
        "variant": variant.number,
        "outcome": outcome,
        "detail": detail,
        "parent_problem": group.source.problem,
        "problem": variant.problem,
        "solution": solution.completion.text.strip() if solution else None,
        "answer": group.source.answer,
        "drawn": len(variant.drawn),
        **{str(verdict): variant.count(verdict) for verdict in Verdict},
        "verdicts": [str(sample.verdict) for sample in variant.drawn],
        "second_verdicts": [str(sample.verdict) for sample in variant.second],
        "failed_checks": sorted(variant.faults),
        "difference": variant.difference,
        "parent_right": sum(sample.verdict == Verdict.right for sample in group.parent) if group.parent else None,
        "completion_tokens": variant.completion_tokens,
        "generator": name,
        "prompt_digest": wrote and prompt_digest(wrote.prompt),
        "sampling": wrote and _written(wrote.sampling),
        "seed": wrote and wrote.seed,
        "proposal_request": wrote and wrote.key(model),
        "solution_prompt_digest": solved_by and prompt_digest(solved_by.prompt),
        "solution_sampling": solved_by and _written(solved_by.sampling),
        "solution_seed": solved_by and solved_by.seed,
        "solution_requests": [sample.request.key(model) for sample in variant.drawn],
        "rescored_hard": rescored_hard,
        "difficulty": difficulty,
    }


def _written(sampling: Sampling) -> str:
    return json.dumps(sampling.model_dump(), sort_keys=True)
