"""From hard rows to new rows: the whole of synthesis, top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from augmenters.synthesis.new_rows import attempts_table, kept_variants, new_id, new_rows
from augmenters.synthesis.request_queue import Work
from augmenters.synthesis.settings import Settings
from augmenters.synthesis.source_rows import Parents, check_shape, parents
from augmenters.synthesis.variants import KEPT, Family, Method
from augmenters.synthesis.warnings import synthesis_warnings
from curate.data.examples import Examples
from curate.errors import InputError
from curate.gate import GateIndex
from curate.generators.request_store import RequestStore
from curate.generators.requests import Generator, prompt_digest
from curate.mixture.plan import Demand, Realized
from curate.run import Run
from curate.verify import Verdict, grade
from curate.verify.pass_rate import Band
from curate.verify.sandbox import sandbox_layers

__all__ = ["begin", "synthesize"]


def synthesize(settings: Settings, demand: Demand, examples: Examples, run: Run) -> Realized:
    """New rows from those that `demand` names; see `augmenters.Synthesize`."""
    found, work = begin(settings, demand, examples, run)
    total = len(work.families)
    with run.progress.stage("synthesise", total, "rows") as stage:
        work.on_finished = lambda _: stage.advance(1)
        work.replay()
        if work.left().requests:
            settings.generator.serve(work)
        stage.cost.tokens = work.made_tokens
    stopped = work.stopped
    work.close()
    _among_each_other(work.families, run)
    model, name = work.model, _name(settings.generator, work.model)
    return Realized(
        rows=new_rows(work.families, examples, model, name),
        rejected=_rejected(work.families),
        record=_record(settings, demand, found, work, stopped, name),
        attempts=attempts_table(work.families, model, name),
        advice=synthesis_warnings,
    )


def begin(settings: Settings, demand: Demand, examples: Examples, run: Run) -> tuple[Parents, Work]:
    """The rows that can have variants, and the work on them, none of it done yet."""
    assert demand.rows is not None
    check_shape(examples)
    found = parents(examples, demand.rows, run_programs=settings.run_programs)
    if len(demand.rows) and not found.parents:
        raise InputError(
            f"Synthesize: none of the {len(demand.rows):,} rows to start from can have variants "
            f"({found.reasons}); name the column of final answers with --columns final_answer=COLUMN"
        )
    index = run.gate_index(examples)
    low, high = settings.band
    method = Method(
        variants=settings.variants,
        band=Band(low, high, settings.samples),
        variation_sampling=settings.variation_sampling,
        solution_sampling=settings.solution_sampling,
        variation_prompt=settings.variation_prompt,
        solution_prompt=settings.solution_prompt,
        longest_problem=settings.longest_problem,
        # The prompt asks for a marked answer; a mere last number may be anything.
        grade=partial(grade, strong_only=True, run_programs=settings.run_programs),
        screen=_screen(index),
    )
    families = [Family(parent, method, demand.seed, demand.number) for parent in found.parents]
    # Which rows are reached before a budget ends must not depend on how the file is sorted.
    order = np.random.default_rng(demand.seed).permutation(len(families))
    work = Work(
        [families[place] for place in order],
        RequestStore.under(run.store),
        settings.generator.identity(),
        budget=settings.budget,
        note=run.progress.note,
    )
    return found, work


def _name(generator: Generator, identity: str) -> str:
    """What people call the model, and what tells its versions apart."""
    model = getattr(generator, "model", None)
    if not isinstance(model, str) or model in identity:
        return identity
    return f"{Path(model).name} ({identity})"


def _screen(index: GateIndex) -> Callable[[Sequence[str]], list[tuple[str, str] | None]]:
    def screen(problems: Sequence[str]) -> list[tuple[str, str] | None]:
        return [(hits[0].kind, hits[0].what) if hits else None for hits in index.check(problems)]

    return screen


def _among_each_other(families: Sequence[Family], run: Run) -> None:
    """Of kept problems that are near each other the first stays, in the order of the families."""
    kept = kept_variants(families)
    # Only against each other: what each collides with in the input was seen before it was solved.
    index = run.new_rows_index()
    hits = index.admit([v.problem or "" for _, v in kept], [new_id(family, v) for family, v in kept])
    for (_, variant), found in zip(kept, hits, strict=True):
        if found:
            variant.reject(found[0].kind, found[0].what)


def _rejected(families: Sequence[Family]) -> list[dict[str, Any]]:
    return [
        {
            "example_id": new_id(family, variant),
            "stage": "synthesise",
            "reason": variant.outcome if variant.detail is None else f"{variant.outcome} ({variant.detail})",
            "content": variant.problem or (variant.proposal.text if variant.proposal else None),
        }
        for family in families
        for variant in family.variants
        if variant.outcome != KEPT
    ]


def _record(settings: Settings, demand: Demand, found: Parents, work: Work, stopped: bool, name: str) -> dict[str, Any]:
    """Counts, settings and cost, for run.json and the report. name: of the generator."""
    variants = [variant for family in work.families for variant in family.variants]
    outcomes = Counter(str(variant.outcome) for variant in variants)
    solved = [variant for variant in variants if variant.drawn]
    band = Band(*settings.band, settings.samples)
    verdicts = Counter(each.verdict for variant in variants for each in variant.drawn)
    assert demand.rows is not None
    return {
        "generator": name,
        "of": getattr(demand.augmenter, "of", None),
        "band": [*settings.band, settings.samples],
        "variants_per_row": settings.variants,
        "variation_prompt": prompt_digest(settings.variation_prompt),
        "solution_prompt": prompt_digest(settings.solution_prompt),
        "rows": {
            "chosen": len(demand.rows) + demand.suspects + demand.unsampled,
            "marked by the noise guard": demand.suspects,
            "not in the sample": demand.unsampled,
            **dict(sorted(found.skipped.items())),
            "started from": len(found.parents),
        },
        "funnel": [
            ["proposals asked for", len(variants)],
            ["proposals written", sum(variant.proposal is not None for variant in variants)],
            ["with a problem", sum(variant.problem is not None for variant in variants)],
            ["past checks and gate", sum(variant.screened for variant in variants)],
            ["kept by the band", sum(_in_band(variant, band) for variant in solved)],
            ["kept", outcomes[KEPT]],
        ],
        "outcomes": dict(sorted(outcomes.items())),
        "right_of_drawn": _histogram(solved),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict},
        "requests": {"made": work.made, "from the store": work.stored},
        "tokens": {
            "prompt": work.prompt_tokens,
            "generated": work.completion_tokens,
            "generated in this run": work.made_tokens,
        },
        "seconds": round(work.seconds, 3),
        "budget": settings.budget,
        "budget_reached": stopped,
        # The layers around programs, see `curate.verify.sandbox_child`; null where none was run.
        "sandbox": list(sandbox_layers()) if settings.run_programs else None,
    }


def _in_band(variant: Any, band: Band) -> bool:
    right, undecided = variant.count(Verdict.right), variant.count(Verdict.undecided)
    return band.decide(right, undecided, len(variant.drawn)) == "in the band"


def _histogram(solved: Sequence[Any]) -> list[list[int]]:
    """[right, drawn, variants] for every pair that occurs."""
    pairs = Counter((variant.count(Verdict.right), len(variant.drawn)) for variant in solved)
    return [[right, drawn, count] for (right, drawn), count in sorted(pairs.items())]
