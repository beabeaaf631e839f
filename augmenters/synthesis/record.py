"""Record of a synthesis: counts, settings, cost and warnings, and a table with every variant that was tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from augmenters.synthesis.checks.registry import CHECKS
from augmenters.synthesis.new_rows import new_id
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.source_rows import SourceRows
from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import KEPT, SampledSolution, SynthesisSettings, Variant
from curate.errors import RunWarning
from curate.generators.requests import Completion, Sampling, prompt_digest
from curate.generators.sampling_parameters import refused_parameters_warning
from curate.mixture.plan import Demand, Screened, Summary
from curate.verify import Verdict

# From here on the generator's own form, not the difficulty of the problems, decides what comes out.
_MOST_WITHOUT_PROBLEM = 0.5
# Of the solved problems; beyond it the generator is the wrong one for these rows, or the band for the generator.
_MOST_OUT_OF_BAND = 0.8
_MOST_UNGRADED = 0.2

_ATTEMPTS = pa.schema(
    [
        ("example_id", pa.string()),  # of the new row; null where there is none
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
        ("parent_right", pa.int32()),  # of the parent's solutions by the generator; null where none was drawn
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
    """What run.json and tables/synthesis.parquet hold of a finished synthesis.

    name: of the generator. sandbox: layers around programs, see `curate.verify.sandbox_child`; None where none was run.
    screened: what became of the new rows afterwards.
    """
    record = _record(settings, demand, sources, queue, name, sandbox, screened)
    attempts = [
        _attempt(group, variant, queue.model, name, screened) for group in queue.groups for variant in group.variants
    ]
    return Summary(record, pa.Table.from_pylist(attempts, _ATTEMPTS), _warnings(record))


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
    verdicts = Counter(each.verdict for variant in variants for each in variant.drawn)
    queues = [each for each in (queue, queue.second) if each is not None]
    assert demand.rows is not None
    return {
        "generator": name,
        "of": getattr(demand.augmenter, "of", None),
        "band": [band.low, band.high, band.samples],
        "variants_per_row": settings.variants,
        "variation_prompt": prompt_digest(settings.variation_prompt),
        "solution_prompt": prompt_digest(settings.solution_prompt),
        "rows": {
            "chosen": len(demand.rows) + demand.suspects + demand.unsampled,
            "marked by the noise guard": demand.suspects,
            "not in the sample": demand.unsampled,
            **dict(sorted(sources.skipped.items())),
            "started from": len(sources.rows),
        },
        "funnel": [
            ["proposals asked for", len(variants)],
            ["proposals written", sum(variant.proposal is not None for variant in variants)],
            ["with a problem", sum(variant.problem is not None for variant in variants)],
            ["past checks and gate", sum(variant.screened for variant in variants)],
            ["kept by the band", sum(settings.decide(variant) == "in the band" for variant in solved)],
            *_later_steps(settings, variants),
            ["kept", outcomes[KEPT]],
        ],
        "strategy": settings.strategy,
        "context": settings.context,
        "checks": _checks(settings, variants),
        "yield": _yields(queue, variants, outcomes[KEPT]),
        "outcomes": dict(sorted(outcomes.items())),
        "right_of_drawn": _histogram(solved),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict},
        "requests": {
            "made": sum(each.made for each in queues),
            "from the store": sum(each.stored for each in queues),
        },
        **({"refused_parameters": dict(sorted(queue.refused_parameters.items()))} if queue.refused_parameters else {}),
        "tokens": {
            "prompt": sum(each.prompt_tokens for each in queues),
            "generated": sum(each.completion_tokens for each in queues),
            "generated in this run": sum(each.made_tokens for each in queues),
        },
        "seconds": round(queue.seconds, 3),
        "budget": queue.budget,
        "budget_reached": queue.stopped,
        "given_up": queue.hopeless,
        "sandbox": sandbox,
        **screened.record,
    }


def _later_steps(settings: SynthesisSettings, variants: Sequence[Variant]) -> list[list[Any]]:
    """The steps of the funnel behind the band, as far as the settings have them."""
    steps: list[list[Any]] = []
    if settings.checks:
        steps.append(["past the checks of solutions", sum(variant.confirmed for variant in variants)])
    if settings.second is not None:
        passed = sum("second_route" in each.checked and "second_route" not in each.faults for each in variants)
        steps.append(["confirmed by a second route", passed])
    return steps


def _checks(settings: SynthesisSettings, variants: Sequence[Variant]) -> dict[str, dict[str, int]]:
    """Check -> problems that it was made of, and that it found a fault in, whatever other checks found."""
    return {
        check: {
            "made": sum(check in variant.checked for variant in variants),
            "failed": sum(check in variant.faults for variant in variants),
        }
        for check in CHECKS
        if check in settings.checks
    }


def _yields(queue: SynthesisQueue, variants: Sequence[Variant], kept: int) -> dict[str, Any]:
    """Kept problems per request and per 1,000 generated tokens, and where requests and tokens went."""
    stages = {
        "solving parents": [each.completion for group in queue.groups for each in group.parent],
        "proposing": [variant.proposal for variant in variants if variant.proposal is not None],
        "solving": _completions(each for variant in variants for each in variant.drawn),
        "second route": _completions(each for variant in variants for each in variant.second),
    }
    cost = {
        stage: {"requests": len(listed), "generated": sum(each.completion_tokens for each in listed)}
        for stage, listed in stages.items()
        if listed
    }
    requests, tokens = (sum(each[key] for each in cost.values()) for key in ("requests", "generated"))
    return {
        "kept": kept,
        "per request": kept / requests if requests else None,
        "per 1,000 generated tokens": 1000 * kept / tokens if tokens else None,
        "cost": cost,
    }


def _completions(solutions: Iterable[SampledSolution]) -> list[Completion]:
    return [each.completion for each in solutions]


def _histogram(solved: Sequence[Variant]) -> list[list[int]]:
    """[right, drawn, variants] for every pair that occurs."""
    pairs = Counter((variant.count(Verdict.right), len(variant.drawn)) for variant in solved)
    return [[right, drawn, count] for (right, drawn), count in sorted(pairs.items())]


def _attempt(group: VariantGroup, variant: Variant, model: str, name: str, screened: Screened) -> dict[str, Any]:
    new_row = new_id(group, variant) if variant.outcome == KEPT else None
    outcome, detail = _outcome(group, variant, screened)
    rescored_hard, difficulty = screened.measured.get(new_row or "", (None, None))
    solution = variant.solution
    wrote, asked = variant.request, variant.drawn[0].request if variant.drawn else None
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
        "verdicts": [str(each.verdict) for each in variant.drawn],
        "second_verdicts": [str(each.verdict) for each in variant.second],
        "failed_checks": sorted(variant.faults),
        "difference": variant.difference,
        "parent_right": sum(each.verdict == Verdict.right for each in group.parent) if group.parent else None,
        "completion_tokens": variant.completion_tokens,
        "generator": name,
        "prompt_digest": wrote and prompt_digest(wrote.prompt),
        "sampling": wrote and _written(wrote.sampling),
        "seed": wrote and wrote.seed,
        "proposal_request": wrote and wrote.key(model),
        "solution_prompt_digest": asked and prompt_digest(asked.prompt),
        "solution_sampling": asked and _written(asked.sampling),
        "solution_seed": asked and asked.seed,
        "solution_requests": [each.request.key(model) for each in variant.drawn],
        "rescored_hard": rescored_hard,
        "difficulty": difficulty,
    }


def _written(sampling: Sampling) -> str:
    return json.dumps(sampling.model_dump(), sort_keys=True)


def _warnings(record: dict[str, Any]) -> list[RunWarning]:
    """What the numbers say about the settings, with the remedy."""
    funnel, outcomes = dict(record["funnel"]), record["outcomes"]
    written, solved = funnel["proposals written"], funnel["past checks and gate"]
    warnings = []
    without = outcomes.get("no problem in the proposal", 0) + outcomes.get("proposal cut off", 0)
    if written and without > _MOST_WITHOUT_PROBLEM * written:
        warnings.append(
            RunWarning(
                "proposals_without_problem",
                f"{without:,} of {written:,} proposals hold no problem: the generator does not follow the format.",
                "Use an instruction-tuned generator (names that end in -Instruct or -it) rather than a base model.",
            )
        )
    for outcome, remedy in (
        ("too easy", "Use a weaker generator, or start from harder rows."),
        ("too hard", "Use a stronger generator, or more samples; some problems may be broken."),
    ):
        count = outcomes.get(outcome, 0)
        if solved and count > _MOST_OUT_OF_BAND * solved:
            code = "problems_" + outcome.replace(" ", "_")
            warnings.append(RunWarning(code, f"{count:,} of {solved:,} solved problems are {outcome}.", remedy))
    if outcomes.get("kept") and "rescored" not in record:
        warnings.append(
            RunWarning(
                "new_rows_not_measured",
                f"It is not known whether the {outcomes['kept']:,} new problems are hard: no proxy was run.",
                "Leave out --scores to have them measured on the proxy like the input.",
            )
        )
    ungraded = outcomes.get("cannot be graded", 0)
    if solved and ungraded > _MOST_UNGRADED * solved:
        warnings.append(
            RunWarning(
                "answers_not_graded",
                f"{ungraded:,} of {solved:,} solved problems have solutions whose answer cannot be compared.",
                "Look at their answers in tables/synthesis.parquet; rows with plain final answers serve better.",
            )
        )
    if (told := refused_parameters_warning(record.get("refused_parameters", {}))) is not None:
        warnings.append(
            RunWarning("sampling_refused", f"{told[0].upper()}{told[1:]}.", "Use a server that takes them to set them.")
        )
    if record.get("given_up"):
        warnings.append(
            RunWarning(
                "yield_hopeless",
                f"Synthesis stopped by itself: {outcomes.get('kept', 0):,} of {written:,} proposals were kept.",
                "Read the reasons, use a stronger generator, or go on from here with --least-yield 0.",
            )
        )
    if record.get("budget_reached"):
        warnings.append(
            RunWarning(
                "budget_reached",
                f"The budget of {record['budget']:,} generated tokens ended synthesis with "
                f"{outcomes.get('budget reached', 0):,} proposals open.",
                "A larger budget resumes from here and pays only the difference.",
            )
        )
    return warnings
