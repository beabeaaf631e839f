"""Synthesize new problems from the solutions of hard rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from augmenters.synthesis.checks.registry import CHECKS, Check
from augmenters.synthesis.domains import Domain, grading, second_route_of
from augmenters.synthesis.expected_cost import expected_tokens
from augmenters.synthesis.new_rows import kept_variants, new_id, new_rows
from augmenters.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT, check_prompt
from augmenters.synthesis.record import rejected_variants, summarize
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.source_rows import SourceRows, check_examples, check_shape, find_domain, source_rows
from augmenters.synthesis.strategies import PLACES, STRATEGIES, Strategy, prompt_file
from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import SynthesisSettings
from curate.component import Component, Consent, call_hook
from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.engine.protocol import Engine
from curate.errors import InputError
from curate.gate.gate import GateIndex
from curate.generators.request_store import RequestStore
from curate.generators.requests import Generator, Sampling
from curate.mixture.plan import NOISE_GUARD, Demand, Kind, Only, Plan, Price, Realized, Screened, Summary
from curate.recipe import grader_from
from curate.run import Run
from curate.verify.sandbox import sandbox_layers
from curate.verify.verdict import PassRateBand


class Synthesize(Component):
    """Variants of hard rows, kept where some of the sampled solutions reach the original answer, but not most, and
    where checks find nothing unsound (SvS, arXiv 2508.14029, made offline; an augmentation of arXiv 2602.00576).

    Departures from SvS: SvS writes from a model's own right responses to problems that 1 to 4 of 8 responses solve
    (`context: sampled`, `parents: [1, 4]`); by default, problems are written from the solutions of hard rows in
    the data. SvS has no checks except the band (`checks: []`, `band: [1, 5]`) and bounds the length of a problem. A
    new row is a problem with one right solution, for fine-tuning, not for reinforcement learning.

    generator: writes and solves problems, see `curate.generators`.
    of: "hard"; or a control of as many rows, "easy" ones or any ("random"), see `curate.mixture.control_rows`.
    rows: maximum number of rows to start from, a seeded sample; None = all.
    variants: problems proposed per row.
    samples: solutions drawn per proposed problem; fewer if the band is decided earlier.
    band: (low, high), how many of `samples` must be right, both inclusive (SvS: 1 to 5 of 8). If none is right, the
        problem is broken or out of reach; if most are, it is easy; a single one may be luck.
    checks: the checks that run, each recorded with its reason (docs/synthesis.md describes them); () = none.
        Only "second_route" makes requests.
    least_difference: of the check "different": least difference from the parent, beyond names and numbers, in [0, 1].
    second_route: how "second_route" finds the answer from the new problem alone: with a "program" that the model writes
        and the sandbox runs, or with a separate prompt ("text"); "auto" = a program with `run_programs`, else text.
    second_samples: number of its samples. second_generator: another model for it; None = `generator`.
    least_yield: stop if a smaller share of the proposals is kept, with 97.5 % confidence; 0 = never.
    strategy: what a proposal is written from, see `augmenters.synthesis.strategies`: the solution ("variation"), its
        operations alone ("skeleton"), a program for them ("back_translation"), or problem and solution, with a
        given number that must be worked out first ("one_step_more").
    grader: decides whether a solution is right, from `curate.graders` or your own; None = the one that fits the rows:
        `Tests` for programs with tests (with `run_programs`), `JSON` for tool calls, else final answers.
    context: the solutions that proposals are written from: those "given" in the data, or right ones "sampled" from the
        generator, as in SvS.
    parents: (low, high) number of the generator's `samples` solutions of a row that must be right for it to be used
        (SvS: 1 to 4 of 8); None = no restriction.
    variation_sampling, solution_sampling: sampling parameters of proposals and solutions (SvS: temperature 1).
    variation_prompt: text with the placeholder {{solution}}; solution_prompt: text with the placeholder {{problem}}.
    longest_problem: maximum characters of a problem.
    budget: maximum generated tokens, including those of earlier runs; None = no limit. No request exceeds it;
        stored completions are used in any case.
    noise_guard: share of the chosen rows, those of highest final loss, that are not used: a new problem
        is graded by the answer of its row, which may be wrong there. On clean data these are the rarest rows, which
        synthesis is meant for: see `Duplicate` for what a guard cost. Rows marked by an earlier augmenter's guard are
        left out too. 0 = off. Not used with `only`, unless it is unknown which rows are reducible.
    only: "reducible" starts only from rows that a model learns from the other rows, as in `Duplicate`; `rows` counts
        those, and a control has as many reducible ones.
    originals: "keep"; or "drop", so that the result contains only new problems.
    keep: "all" new problems; or those that are "hard" when measured like the input.
    run_programs: run solutions that are Python programs, those of the data and sampled ones, in a sandbox to
        get their answer. Off by default: this executes code from the data and from the model.
    """

    generator: Any
    of: Kind = Field(default="hard", description="rows to start from")
    rows: int | None = Field(default=None, ge=1, description="at most N rows to start from, a seeded sample")
    variants: int = Field(default=2, ge=1, le=1000, description="problems proposed per row")
    samples: int = Field(default=8, ge=1, le=1000, description="solutions drawn per problem")
    band: tuple[int, int] = Field(
        default=(2, 5), description="keep a problem if this many of its solutions are correct (2-5)"
    )
    checks: tuple[Check, ...] = Field(
        default=CHECKS, description="checks of new problems: none, or =-NAME to leave one out (all)"
    )
    least_difference: float = Field(default=0.2, ge=0, le=1)
    second_route: Literal["auto", "program", "text"] = Field(default="auto", description="second way to the answer")
    second_samples: int = Field(default=3, ge=1, le=100)
    second_generator: Any = None
    least_yield: float = Field(
        default=0.05, ge=0, lt=1, description="stop if a smaller share of proposals is kept; 0 = never"
    )
    strategy: Strategy = Field(
        default="variation",
        description=f"what new problems are written from: {', '.join(STRATEGIES)} (variation)",
    )
    context: Literal["given", "sampled"] = Field(
        default="given", description="solutions to write from: the given ones or the generator's"
    )
    grader: Any = None
    parents: tuple[int, int] | None = Field(
        default=None, description="only start from rows that the generator solves LOW to HIGH times (any)"
    )
    variation_sampling: Sampling = Sampling(max_tokens=512)
    solution_sampling: Sampling = Sampling(max_tokens=1024)
    variation_prompt: str = DEFAULT_VARIATION_PROMPT
    solution_prompt: str = DEFAULT_SOLUTION_PROMPT
    longest_problem: int = Field(default=2000, ge=1)
    budget: int | None = Field(default=None, ge=1, description="maximum generated tokens, including earlier runs")
    noise_guard: float = Field(default=0.05, ge=0, lt=1)
    originals: Literal["keep", "drop"] = "keep"
    keep: Literal["all", "hard"] = Field(default="all", description="all new problems, or those measured as hard")
    run_programs: bool = Field(default=False, description="run Python solutions in a sandbox for their answer")
    only: Only = None
    version: ClassVar[int] = 2
    consents: ClassVar[Mapping[str, Consent]] = {"run_programs": Consent(("--run-programs",))}
    added: ClassVar[frozenset[str]] = frozenset(["only"])
    superseded: ClassVar[Mapping[str, str]] = {"noise_guard": NOISE_GUARD}

    @field_validator("generator", "second_generator")
    @classmethod
    def _generates(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name == "second_generator":
            return None
        if isinstance(value, type) or not isinstance(value, Generator):
            raise ValueError(
                f"{value!r} does not generate: give an object with identity() and serve(queue), such as "
                "VLLMServer(model=...), in a recipe {use: VLLMServer, model: ...}"
            )
        return value

    @field_validator("grader", mode="before")
    @classmethod
    def _is_grader(cls, grader: Any) -> Any:
        """Validate `grader`: a component, or its name in a recipe."""
        return grader_from(grader, "grader")

    @model_validator(mode="after")
    def _consistent(self) -> Synthesize:
        low, high = self.band
        if not 1 <= low <= high <= self.samples:
            raise ValueError(f"band {low}..{high} must lie within 1..{self.samples}, the number of samples")
        if self.parents is not None and not 0 <= self.parents[0] <= self.parents[1] <= self.samples:
            raise ValueError(
                f"parents {self.parents[0]}..{self.parents[1]} must lie within 0..{self.samples}, the number of samples"
            )
        if self.second_route == "program" and not self.run_programs:
            raise ValueError("second_route: program runs programs; set run_programs too, or use second_route: text")
        places = {"variation_prompt": PLACES[self.strategy], "solution_prompt": ("problem",)}
        for name, text in (("variation_prompt", self._variation_text()), ("solution_prompt", self.solution_prompt)):
            try:
                check_prompt(text, *places[name])
            except InputError as error:
                raise ValueError(f"{name}: {error}") from error
        return self

    def _variation_text(self) -> str:
        """The prompt of proposals: the strategy's, unless there is a custom one."""
        own = self.variation_prompt != DEFAULT_VARIATION_PROMPT or self.strategy == "variation"
        return self.variation_prompt if own else prompt_file(self.strategy)

    def needs_reducible(self) -> bool:
        """See `curate.mixture.plan.Augmenter`."""
        return self.only is not None

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError if the noise guard is on and the scorer recorded no losses, or `only` was not measured."""
        random = np.random.default_rng(seed)
        rows = plan.choose(self.of, split, random, self.only)
        filtered = not split.allowed(self.only).all()
        plan = plan.mark_suspects(rows, split, 0 if filtered else self.noise_guard, "Synthesize.noise_guard")
        chosen = plan.trusted(rows)
        left_out = {"suspects": len(rows) - len(chosen), "unsampled": max(len(chosen) - (self.rows or len(chosen)), 0)}
        if filtered:
            left_out["irreducible"] = int((split.hard & plan.planned).sum()) - len(rows)
        if left_out["unsampled"]:
            chosen = np.sort(random.choice(chosen, self.rows, replace=False))
        number = sum(demand.kind == "synthetic" for demand in plan.demands)
        only_hard = self.keep == "hard"
        plan = plan.demand(Demand(self, "synthetic", seed, rows=chosen, number=number, only_hard=only_hard, **left_out))
        if self.originals == "drop":
            plan = plan.leave_out(plan.planned, "only new problems are asked for")
        return plan

    def check_examples(self, examples: Examples) -> None:
        """Raise InputError if no row can have variants."""
        domain = self._domain(examples)
        check_examples(examples, domain, run_programs=self.run_programs)

    def check_ready(self) -> None:
        """Raise an error if the generator can tell that it will fail."""
        call_hook(self.generator, "check_ready")
        if self.second_generator is not None and "second_route" in self.checks:
            call_hook(self.second_generator, "check_ready")

    def check_engine(self, engine: Engine | None) -> None:
        """Raise InputError if a generator needs an engine and there is none."""
        call_hook(self.generator, "check_engine", engine)
        if self.second_generator is not None and "second_route" in self.checks:
            call_hook(self.second_generator, "check_engine", engine)

    def price(self, plan: Plan, examples: Examples, run: Run) -> Price:
        """What realizing this plan would still request from the generator; makes no requests."""
        (demand,) = plan.demands
        _, sources, queue = self._begin(demand, examples, run)
        queue.replay()
        remaining = queue.left()
        expected = [expected_tokens(group) for group in queue.groups if not group.finished]
        return Price(
            rows=len(sources.rows),
            skipped=sources.skipped.total(),
            stored=queue.stored,
            requests=remaining.requests,
            generated_tokens=min(int(sum(generated for generated, _ in expected)), remaining.completion_tokens),
            prompt_tokens=int(sum(prompts for _, prompts in expected)),
            most_tokens=remaining.completion_tokens,
            second=remaining.second,
            solving_parents=sum(group.settings.solves_parents and not group.parent for group in queue.groups)
            * self.samples,
        )

    def realize(self, plan: Plan, examples: Examples, run: Run) -> Realized:
        """Write, screen, solve and grade. If interrupted, the same call resumes from the request store in the cache."""
        (demand,) = plan.demands
        settings, sources, queue = self._begin(demand, examples, run)
        self._serve(queue, run)
        return Realized(
            new_rows(
                *(queue.groups, examples, queue.model, _label(self.generator, queue.model)),
                copied=self._domain(examples).copied,
            ),
            rejected_variants(queue.groups),
            self._summarize(settings, demand, sources, queue),
        )

    def preview(self, plan: Plan, examples: Examples, run: Run, proposals: int) -> Summary:
        """The outcome of the first `count` proposals of this plan (of whole rows).

        They are requested and stored as by `realize`, which then pays only for the others.
        """
        (demand,) = plan.demands
        settings, sources, queue = self._begin(demand, examples, run, most=-(-proposals // self.variants))
        self._serve(queue, run)
        return self._summarize(settings, demand, sources, queue)(Screened())

    def _serve(self, queue: SynthesisQueue, run: Run) -> None:
        """Serve all requests that the store, the budget and the yield leave open."""
        with run.progress.stage("synthesize", len(queue.groups), "rows") as stage:
            queue.on_finished = lambda _: stage.advance(1)
            queue.replay()
            queue.engine = run.engine
            if queue.waiting:
                self.generator.serve(queue)
            if (second := queue.open_second()) is not None:
                second.engine = run.engine
                self.second_generator.serve(second)
            stage.cost.tokens = queue.made_tokens + (queue.second.made_tokens if queue.second else 0)
        queue.close()
        _reject_near_duplicates(queue.groups, run)

    def _summarize(
        self, settings: SynthesisSettings, demand: Demand, sources: SourceRows, queue: SynthesisQueue
    ) -> Callable[[Screened], Summary]:
        name = _label(self.generator, queue.model)
        sandbox = list(sandbox_layers()) if self.run_programs else None
        return partial(summarize, settings, demand, sources, queue, name, sandbox)

    def _begin(
        self, demand: Demand, examples: Examples, run: Run, most: int | None = None
    ) -> tuple[SynthesisSettings, SourceRows, SynthesisQueue]:
        """The settings of variants, the rows that can have some, and the queue of requests, none of them made yet.

        most: maximum number of rows, the first ones in request order; None = all.
        """
        assert demand.rows is not None
        check_shape(examples)
        domain = self._domain(examples)
        sources = source_rows(examples, demand.rows, domain, run_programs=self.run_programs)
        if len(demand.rows) and not sources.rows:
            raise InputError(
                f"Synthesize: none of the {len(demand.rows):,} rows to start from can have variants "
                f"({sources.reasons}); name the column of final answers with --columns final_answer=COLUMN"
            )
        settings = self._settings(run.gate_index(examples), domain)
        groups = [VariantGroup(source, settings, demand.seed, demand.number) for source in sources.rows]
        # The rows that are reached before a budget ends must not depend on the order of the file.
        order = np.random.default_rng(demand.seed).permutation(len(groups))
        second = self.second_generator if settings.second is not None else None
        queue = SynthesisQueue(
            [groups[place] for place in order[:most]],
            RequestStore.under(run.store),
            self.generator.identity(),
            budget=self.budget,
            note=run.progress.note,
            second_model=None if second is None else second.identity(),
            least_yield=self.least_yield,
        )
        return settings, sources, queue

    def _domain(self, examples: Examples) -> Domain:
        """How the rows are graded. InputError if a strategy needs final answers and there are none."""
        domain = find_domain(examples, self.grader, run_programs=self.run_programs)
        if not domain.of_answers and self.strategy != "variation":
            raise InputError(
                f"Synthesize: strategy {self.strategy} is for problems with final answers, and these rows are graded "
                f"by {type(domain.grader).__name__}; use strategy: variation"
            )
        if not domain.of_answers and self.second_route == "program":
            raise InputError(
                f"Synthesize: second_route program prints a final answer, and these rows are graded by "
                f"{type(domain.grader).__name__}; use second_route: text"
            )
        return domain

    def _settings(self, index: GateIndex, domain: Domain) -> SynthesisSettings:
        second = None
        if "second_route" in self.checks:
            second = second_route_of(
                *(domain, self.second_samples, self.solution_sampling),
                program=self.second_route == "program" or (self.second_route == "auto" and self.run_programs),
                run_programs=self.run_programs,
            )

        def screen(problems: Sequence[str]) -> list[tuple[str, str] | None]:
            return [(hits[0].kind, hits[0].what) if hits else None for hits in index.check(problems)]

        return SynthesisSettings(
            variants=self.variants,
            band=PassRateBand(*self.band, self.samples),
            variation_sampling=self.variation_sampling,
            solution_sampling=self.solution_sampling,
            variation_prompt=self._variation_text()
            if domain.of_answers or self.variation_prompt != DEFAULT_VARIATION_PROMPT
            else domain.prompt(0),
            solution_prompt=self.solution_prompt
            if domain.of_answers or self.solution_prompt != DEFAULT_SOLUTION_PROMPT
            else domain.prompt(1),
            longest_problem=self.longest_problem,
            grade=grading(domain, run_programs=self.run_programs),
            screen=screen,
            strategy=self.strategy,
            context=self.context,
            parents=self.parents,
            checks=frozenset(self.checks),
            least_difference=self.least_difference,
            second=second,
            of_answers=domain.of_answers,
        )


def _label(generator: Generator, identity: str) -> str:
    """Name of the model, and what distinguishes its versions."""
    model = getattr(generator, "model", None)
    if not isinstance(model, str) or model in identity:
        return identity
    return f"{Path(model).name} ({identity})"


def _reject_near_duplicates(groups: Sequence[VariantGroup], run: Run) -> None:
    """Among kept problems that are near-duplicates of each other, keep the first, in the order of the groups."""
    kept_pairs = kept_variants(groups)
    # Only against each other: matches with the input were checked before solving.
    index = run.new_rows_index()
    hits = index.admit([v.problem or "" for _, v in kept_pairs], [new_id(group, v) for group, v in kept_pairs])
    for (_, variant), collisions in zip(kept_pairs, hits, strict=True):
        if collisions:
            variant.reject(collisions[0].kind, collisions[0].what)
