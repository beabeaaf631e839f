"""Variants of a source row: the requests for them, and the outcome of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from augmenters.synthesis.prompts import chat, has_control_characters, parse_problem, problem_fault
from curate.generators.requests import Completion, Request, Sampling
from curate.seeds import derive_seed
from curate.verify import Verdict
from curate.verify.verdict import Decision, PassRateBand

_CHARACTERS_PER_TOKEN = 3.5  # of English with numbers; the generator's own tokenizer is not asked
# Outcomes of a variant besides the reasons for rejection below.
KEPT = "kept"
UNFINISHED = "budget reached"


@dataclass(frozen=True)
class SourceRow:
    """A row of the input to write variants of. row: its position; answer: its final answer."""

    row: int
    example_id: str
    problem: str
    solution: str
    answer: str


@dataclass(frozen=True)
class SynthesisSettings:
    """How variants are made; see `augmenters.Synthesize` for the meaning of each.

    grade: (completion, answer) -> Verdict. screen: problems -> for each (reason, what it collides with), or None.
    """

    variants: int
    band: PassRateBand
    variation_sampling: Sampling
    solution_sampling: Sampling
    variation_prompt: str
    solution_prompt: str
    longest_problem: int
    grade: Callable[[str, str], Verdict]
    screen: Callable[[Sequence[str]], Sequence[tuple[str, str] | None]]

    def decide(self, variant: Variant) -> Decision | None:
        """What the solutions drawn so far say of a variant; None = nothing yet."""
        return self.band.decide(variant.count(Verdict.right), variant.count(Verdict.undecided), len(variant.drawn))


@dataclass(frozen=True)
class SampledSolution:
    """One sampled solution and how its final answer compares with the original one."""

    request: Request
    completion: Completion
    verdict: Verdict


@dataclass
class Variant:
    """A proposed problem.

    screened: whether the problem passed the checks and the gate, so that it is worth solving.
    outcome: None while open; "kept", or the reason why it was rejected; detail: what it collided with, and the like.
    """

    number: int
    request: Request
    proposal: Completion | None = None
    problem: str | None = None
    drawn: list[SampledSolution] = field(default_factory=list)
    screened: bool = False
    outcome: str | None = None
    detail: str | None = None

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.drawn)

    @property
    def solution(self) -> SampledSolution | None:
        """The first right sample that is plain text: the new row's completion."""
        right = (each for each in self.drawn if each.verdict == Verdict.right)
        return next((each for each in right if not has_control_characters(each.completion.text)), None)

    @property
    def completion_tokens(self) -> int:
        """Generated for this variant, proposal and solutions together."""
        every = [self.proposal, *(each.completion for each in self.drawn)]
        return sum(each.completion_tokens for each in every if each is not None)

    def reject(self, reason: str, detail: str | None = None) -> None:
        self.outcome, self.detail = reason, detail


class VariantGroup:
    """All variants of one source row.

    `begin` says what to ask first; `receive` takes a completion and says what to ask next. Proposals are looked at
    when all of them are there, and samples when a whole round is, so that what is asked never depends on the order
    in which completions arrive.

    demand: number of earlier demands for synthetic rows, which the ids of new rows tell apart.
    """

    def __init__(self, source: SourceRow, settings: SynthesisSettings, seed: int, demand: int = 0) -> None:
        self.source, self.settings, self.demand = source, settings, demand
        prompt = chat(settings.variation_prompt, "solution", source.solution)
        drawn_with = derive_seed(seed, "variation", source.example_id)
        self.variants = [
            Variant(number, Request(prompt, settings.variation_sampling, drawn_with, number))
            for number in range(settings.variants)
        ]
        self.seed = seed
        self._round: dict[int, dict[int, tuple[Request, Completion]]] = {}
        self._asked: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        return all(variant.outcome is not None for variant in self.variants)

    @property
    def untouched(self) -> bool:
        """Whether no completion of the group is there yet."""
        return all(variant.proposal is None for variant in self.variants)

    def expected_tokens(self) -> tuple[float, float]:
        """Tokens (generated, of prompts) still to come, if texts are about as long as the source row's."""
        settings = self.settings
        problem = len(self.source.problem) / _CHARACTERS_PER_TOKEN
        solution = len(self.source.solution) / _CHARACTERS_PER_TOKEN
        around = [len(text) / _CHARACTERS_PER_TOKEN for text in (settings.variation_prompt, settings.solution_prompt)]
        generated = prompts = 0.0
        for variant in self.variants:
            if variant.outcome is not None:
                continue
            samples = settings.band.samples - len(variant.drawn)
            generated += samples * min(1.5 * solution, settings.solution_sampling.max_tokens)
            prompts += samples * (problem + around[1])
            if variant.proposal is None:
                generated += min(problem, settings.variation_sampling.max_tokens)
                prompts += solution + around[0]
        return generated, prompts

    def begin(self) -> list[tuple[Request, Any]]:
        """The first requests, each with the request_id to hand back with its completion."""
        return [(variant.request, (variant.number, None)) for variant in self.variants]

    def receive(self, request_id: Any, request: Request, completion: Completion) -> list[tuple[Request, Any]]:
        """Take the completion of a request; returns the requests that follow from it."""
        number, sample = request_id
        variant = self.variants[number]
        if sample is None:
            variant.proposal = completion
            return self._judge_proposals() if all(each.proposal for each in self.variants) else []
        self._round[number][sample] = (request, completion)
        return self._judge_round(variant) if len(self._round[number]) == self._asked[number] else []

    def _judge_proposals(self) -> list[tuple[Request, Any]]:
        seen: set[str] = set()
        for variant in self.variants:
            self._judge_proposal(variant, seen)
        open_ones = [variant for variant in self.variants if variant.outcome is None]
        collisions = self.settings.screen([variant.problem or "" for variant in open_ones])
        for variant, collision in zip(open_ones, collisions, strict=True):
            if collision is not None:
                variant.reject(*collision)
            variant.screened = collision is None
        return [each for variant in open_ones if variant.screened for each in self._next_round(variant)]

    def _judge_proposal(self, variant: Variant, seen: set[str]) -> None:
        assert variant.proposal is not None
        if variant.proposal.finish_reason == "refused":
            return variant.reject("request refused", variant.proposal.refusal)
        cut = variant.proposal.finish_reason == "length"
        problem = parse_problem(variant.proposal.text, cut_off=cut)
        if problem is None:
            return variant.reject("proposal cut off" if cut else "no problem in the proposal")
        variant.problem = problem
        fault = problem_fault(problem, self.source.answer, self.source.problem, self.settings.longest_problem)
        plain = " ".join(problem.lower().split())
        if fault is None and plain in seen:
            fault = "same as another variant of its parent"
        seen.add(plain)
        return variant.reject(fault) if fault else None

    def _next_round(self, variant: Variant) -> list[tuple[Request, Any]]:
        band, drawn = self.settings.band, len(variant.drawn)
        asked = band.next_samples(variant.count(Verdict.right), variant.count(Verdict.undecided), drawn)
        assert variant.problem is not None
        prompt = chat(self.settings.solution_prompt, "problem", variant.problem)
        seed = derive_seed(self.seed, "solution", self.source.example_id, variant.number)
        self._round[variant.number], self._asked[variant.number] = {}, asked
        samples = range(drawn, drawn + asked)
        return [
            (Request(prompt, self.settings.solution_sampling, seed, index), (variant.number, index))
            for index in samples
        ]

    def _judge_round(self, variant: Variant) -> list[tuple[Request, Any]]:
        arrived = [each for _, each in sorted(self._round[variant.number].items())]
        served = [each for each in arrived if each[1].finish_reason != "refused"]
        variant.drawn += [
            SampledSolution(request, completion, self._verdict(completion)) for request, completion in served
        ]
        if len(served) < len(arrived):
            refusal = next(completion.refusal for _, completion in arrived if completion.finish_reason == "refused")
            variant.reject("request refused", refusal)
            return []
        decision = self.settings.decide(variant)
        if decision is None:
            return self._next_round(variant)
        if decision != "in the band":
            variant.reject(decision)
        elif variant.solution is None:
            variant.reject("control characters in the solutions")
        else:
            variant.outcome = KEPT
        return []

    def _verdict(self, completion: Completion) -> Verdict:
        # A solution that was cut off is none, whatever number its last line happens to hold.
        if completion.finish_reason == "length":
            return Verdict.wrong
        return self.settings.grade(completion.text, self.source.answer)
