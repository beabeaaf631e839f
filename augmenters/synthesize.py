"""Synthesize new problems from the solutions of hard rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from augmenters.synthesis.new_rows import kept_variants, new_id, new_rows
from augmenters.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT, check_prompt
from augmenters.synthesis.record import rejected_variants, summarize
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.source_rows import SourceRows, check_examples, check_shape, source_rows
from augmenters.synthesis.variants import SynthesisSettings, VariantGroup
from curate.component import Component, Consent, call_hook
from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.gate.gate import GateIndex
from curate.generators.request_store import RequestStore
from curate.generators.requests import Generator, Sampling
from curate.mixture.plan import Demand, Kind, Plan, Price, Realized
from curate.run import Run
from curate.verify import grade
from curate.verify.sandbox import sandbox_layers
from curate.verify.verdict import PassRateBand


class Synthesize(Component):
    """Variants of hard rows, kept where some of the sampled solutions reach the original answer, but not most
    (SvS, arXiv 2508.14029, made offline; used as an augmentation by arXiv 2602.00576).

    Departures from SvS: it writes from a model's own right responses to problems that 1 to 4 of 8 responses solve; here
    problems are written from the solutions of hard rows that stand in the data. It only bounds the length of a problem;
    here those that tell the answer or repeat another are left out before anything is solved. And a new row is a problem
    with one right solution, for fine-tuning, not for reinforcement learning.

    generator: what writes and solves, see `curate.generators`.
    of: "hard"; or a control of as many rows, "easy" ones or any ("random"), see `curate.mixture.control_rows`.
    rows: at most that many rows to start from, a seeded sample; None = all.
    variants: problems proposed per row.
    samples: solutions drawn per proposed problem; fewer where the band is decided before.
    band: (low, high), how many of `samples` must be right, both inclusive (SvS: 1 to 5 of 8). None right means that
        the problem is broken or out of reach, most right that it is easy.
    variation_sampling, solution_sampling: how both are drawn (SvS: temperature 1).
    variation_prompt: text with the place {{solution}}; solution_prompt: text with the place {{problem}}.
    longest_problem: characters.
    budget: most generated tokens, those that earlier runs paid included; None = no limit. Nothing is asked beyond it;
        what the request store holds is used all the same.
    noise_guard: share of the chosen rows, those of highest final loss, that are not started from: a new problem
        is graded by the answer of its row, which may be wrong there. On clean data these are the rarest rows, and what
        the settings is for: see `Duplicate` for what a guard cost. Rows marked by an earlier augmenter's guard are left
        out too. 0 = off.
    originals: "keep"; or "drop", so that the result holds nothing but new problems.
    keep: "all" new problems; or those that are "hard" when they are measured like the input.
    run_programs: for solutions that are Python programs, those of the data and sampled ones, run them (in a sandbox) to
        get their answer. Off by default: this executes what stands in the data, and what the model writes.
    """

    generator: Any
    of: Kind = Field(default="hard", description="rows to start from")
    rows: int | None = Field(default=None, ge=1, description="at most N rows to start from, a seeded sample")
    variants: int = Field(default=2, ge=1, le=1000, description="problems proposed per row")
    samples: int = Field(default=8, ge=1, le=1000, description="solutions drawn per problem")
    band: tuple[int, int] = Field(default=(1, 5), description="how many of them must be right (1-5)")
    variation_sampling: Sampling = Sampling(max_tokens=512)
    solution_sampling: Sampling = Sampling(max_tokens=1024)
    variation_prompt: str = DEFAULT_VARIATION_PROMPT
    solution_prompt: str = DEFAULT_SOLUTION_PROMPT
    longest_problem: int = Field(default=2000, ge=1)
    budget: int | None = Field(default=None, ge=1, description="most generated tokens, earlier runs included")
    noise_guard: float = Field(default=0.05, ge=0, lt=1)
    originals: Literal["keep", "drop"] = "keep"
    keep: Literal["all", "hard"] = Field(default="all", description="all new problems, or those measured as hard")
    run_programs: bool = Field(default=False, description="run Python solutions in a sandbox for their answer")
    consents: ClassVar[Mapping[str, Consent]] = {"run_programs": Consent(("--run-programs",))}

    @field_validator("generator")
    @classmethod
    def _generates(cls, value: Any) -> Any:
        if isinstance(value, type) or not isinstance(value, Generator):
            raise ValueError(
                f"{value!r} does not generate: give an object with identity() and serve(queue), such as "
                "VLLMServer(model=...), in a recipe {use: VLLMServer, model: ...}"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Synthesize:
        low, high = self.band
        if not 1 <= low <= high <= self.samples:
            raise ValueError(f"band {low}..{high} must lie within 1..{self.samples}, the number of samples")
        for name, slot in (("variation_prompt", "solution"), ("solution_prompt", "problem")):
            try:
                check_prompt(getattr(self, name), slot)
            except InputError as error:
                raise ValueError(f"{name}: {error}") from error
        return self

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError if the noise guard is on and the scorer recorded no losses."""
        random = np.random.default_rng(seed)
        rows = plan.choose(self.of, split, random)
        plan = plan.mark_suspects(rows, split, self.noise_guard, "Synthesize.noise_guard")
        chosen = plan.trusted(rows)
        left_out = {"suspects": len(rows) - len(chosen), "unsampled": max(len(chosen) - (self.rows or len(chosen)), 0)}
        if left_out["unsampled"]:
            chosen = np.sort(random.choice(chosen, self.rows, replace=False))
        number = sum(demand.kind == "synthetic" for demand in plan.demands)
        only_hard = self.keep == "hard"
        plan = plan.demand(Demand(self, "synthetic", seed, rows=chosen, number=number, only_hard=only_hard, **left_out))
        if self.originals == "drop":
            plan = plan.leave_out(plan.planned, "only new problems are asked for")
        return plan

    def check_examples(self, examples: Examples) -> None:
        """Raise InputError where no row can have variants."""
        check_examples(examples, run_programs=self.run_programs)

    def check_ready(self) -> None:
        """Raise where the generator can tell that it will fail."""
        call_hook(self.generator, "check_ready")

    def price(self, plan: Plan, examples: Examples, run: Run) -> Price:
        """What realizing this plan would still ask of the generator; asks nothing."""
        (demand,) = plan.demands
        _, sources, queue = self._begin(demand, examples, run)
        queue.replay()
        left = queue.left()
        expected = [group.expected_tokens() for group in queue.groups if not group.finished]
        return Price(
            rows=len(sources.rows),
            skipped=sources.skipped.total(),
            stored=queue.stored,
            requests=left.requests,
            generated_tokens=min(int(sum(generated for generated, _ in expected)), left.completion_tokens),
            prompt_tokens=int(sum(prompts for _, prompts in expected)),
            most_tokens=left.completion_tokens,
        )

    def realize(self, plan: Plan, examples: Examples, run: Run) -> Realized:
        """Write, screen, solve and grade. Interrupted, the same call resumes from the request store in the cache."""
        (demand,) = plan.demands
        settings, sources, queue = self._begin(demand, examples, run)
        groups = queue.groups
        with run.progress.stage("synthesize", len(groups), "rows") as stage:
            queue.on_finished = lambda _: stage.advance(1)
            queue.replay()
            if queue.left().requests:
                self.generator.serve(queue)
            stage.cost.tokens = queue.made_tokens
        queue.close()
        _reject_near_duplicates(groups, run)
        name = _label(self.generator, queue.model)
        sandbox = list(sandbox_layers()) if self.run_programs else None
        return Realized(
            new_rows(groups, examples, queue.model, name),
            rejected_variants(groups),
            partial(summarize, settings, demand, sources, queue, name, sandbox),
        )

    def _begin(
        self, demand: Demand, examples: Examples, run: Run
    ) -> tuple[SynthesisSettings, SourceRows, SynthesisQueue]:
        """How variants are made, the rows that can have some, and the queue of requests, none of them asked yet."""
        assert demand.rows is not None
        check_shape(examples)
        sources = source_rows(examples, demand.rows, run_programs=self.run_programs)
        if len(demand.rows) and not sources.rows:
            raise InputError(
                f"Synthesize: none of the {len(demand.rows):,} rows to start from can have variants "
                f"({sources.reasons}); name the column of final answers with --columns final_answer=COLUMN"
            )
        settings = self._settings(run.gate_index(examples))
        groups = [VariantGroup(source, settings, demand.seed, demand.number) for source in sources.rows]
        # Which rows are reached before a budget ends must not depend on how the file is sorted.
        order = np.random.default_rng(demand.seed).permutation(len(groups))
        queue = SynthesisQueue(
            [groups[place] for place in order],
            RequestStore.under(run.store),
            self.generator.identity(),
            budget=self.budget,
            note=run.progress.note,
        )
        return settings, sources, queue

    def _settings(self, index: GateIndex) -> SynthesisSettings:
        def screen(problems: Sequence[str]) -> list[tuple[str, str] | None]:
            return [(hits[0].kind, hits[0].what) if hits else None for hits in index.check(problems)]

        return SynthesisSettings(
            variants=self.variants,
            band=PassRateBand(*self.band, self.samples),
            variation_sampling=self.variation_sampling,
            solution_sampling=self.solution_sampling,
            variation_prompt=self.variation_prompt,
            solution_prompt=self.solution_prompt,
            longest_problem=self.longest_problem,
            # The prompt asks for a marked answer; a mere last number may be anything.
            grade=partial(grade, strong_only=True, run_programs=self.run_programs),
            screen=screen,
        )


def _label(generator: Generator, identity: str) -> str:
    """Name of the model, and what tells its versions apart."""
    model = getattr(generator, "model", None)
    if not isinstance(model, str) or model in identity:
        return identity
    return f"{Path(model).name} ({identity})"


def _reject_near_duplicates(groups: Sequence[VariantGroup], run: Run) -> None:
    """Of kept problems that are near-duplicates of each other keep the first, in the order of the groups."""
    kept = kept_variants(groups)
    # Only against each other: what each collides with in the input was seen before it was solved.
    index = run.new_rows_index()
    hits = index.admit([v.problem or "" for _, v in kept], [new_id(group, v) for group, v in kept])
    for (_, variant), collisions in zip(kept, hits, strict=True):
        if collisions:
            variant.reject(collisions[0].kind, collisions[0].what)
