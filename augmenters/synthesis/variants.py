"""One source row and the variants written from its solution: what to ask next, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from augmenters.synthesis.parsing import has_control_characters, parse_problem, problem_fault
from augmenters.synthesis.prompts import chat
from curate.generators.requests import Completion, Request, Sampling
from curate.seeds import derive_seed
from curate.verify import Verdict
from curate.verify.pass_rate import Band

__all__ = ["Drawn", "Family", "Method", "Parent", "Variant"]

# Outcomes of a variant that later stages give; the others are the reasons that stand here below.
KEPT = "kept"
UNFINISHED = "budget reached"


@dataclass(frozen=True)
class Parent:
    """A row of the input to write variants of. row: its position; answer: its final answer."""

    row: int
    example_id: str
    problem: str
    solution: str
    answer: str


@dataclass(frozen=True)
class Method:
    """How variants are made; see `augmenters.Synthesize` for the meaning of each.

    grade: (completion, answer) -> Verdict. screen: problems -> for each (reason, what it collides with), or None.
    """

    variants: int
    band: Band
    variation_sampling: Sampling
    solution_sampling: Sampling
    variation_prompt: str
    solution_prompt: str
    longest_problem: int
    grade: Callable[[str, str], Verdict]
    screen: Callable[[Sequence[str]], Sequence[tuple[str, str] | None]]


@dataclass(frozen=True)
class Drawn:
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
    drawn: list[Drawn] = field(default_factory=list)
    screened: bool = False
    outcome: str | None = None
    detail: str | None = None

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.drawn)

    @property
    def solution(self) -> Drawn | None:
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


class Family:
    """All variants of one parent.

    `begin` says what to ask first; `receive` takes a completion and says what to ask next. Proposals are looked at
    when all of them are there, and samples when a whole round is, so that what is asked never depends on the order
    in which completions arrive.

    demand: number of earlier demands for synthetic rows, which the ids of new rows tell apart.
    """

    def __init__(self, parent: Parent, method: Method, seed: int, demand: int = 0) -> None:
        self.parent, self.method, self.demand = parent, method, demand
        prompt = chat(method.variation_prompt, "solution", parent.solution)
        drawn_with = derive_seed(seed, "variation", parent.example_id)
        self.variants = [
            Variant(number, Request(prompt, method.variation_sampling, drawn_with, number))
            for number in range(method.variants)
        ]
        self.seed = seed
        self._round: dict[int, dict[int, tuple[Request, Completion]]] = {}
        self._asked: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        return all(variant.outcome is not None for variant in self.variants)

    @property
    def untouched(self) -> bool:
        """Whether no completion of the family is there yet."""
        return all(variant.proposal is None for variant in self.variants)

    def begin(self) -> list[tuple[Request, Any]]:
        """The first requests, each with the ticket to hand back with its completion."""
        return [(variant.request, (variant.number, None)) for variant in self.variants]

    def receive(self, ticket: Any, request: Request, completion: Completion) -> list[tuple[Request, Any]]:
        """Take the completion of a request; returns the requests that follow from it."""
        number, sample = ticket
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
        found = self.method.screen([variant.problem or "" for variant in open_ones])
        for variant, collision in zip(open_ones, found, strict=True):
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
        fault = problem_fault(problem, self.parent.answer, self.parent.problem, self.method.longest_problem)
        plain = " ".join(problem.lower().split())
        if fault is None and plain in seen:
            fault = "same as another variant of its parent"
        seen.add(plain)
        return variant.reject(fault) if fault else None

    def _next_round(self, variant: Variant) -> list[tuple[Request, Any]]:
        band, drawn = self.method.band, len(variant.drawn)
        asked = band.next_samples(variant.count(Verdict.right), variant.count(Verdict.undecided), drawn)
        assert variant.problem is not None
        prompt = chat(self.method.solution_prompt, "problem", variant.problem)
        seed = derive_seed(self.seed, "solution", self.parent.example_id, variant.number)
        self._round[variant.number], self._asked[variant.number] = {}, asked
        samples = range(drawn, drawn + asked)
        return [
            (Request(prompt, self.method.solution_sampling, seed, index), (variant.number, index)) for index in samples
        ]

    def _judge_round(self, variant: Variant) -> list[tuple[Request, Any]]:
        arrived = [each for _, each in sorted(self._round[variant.number].items())]
        served = [each for each in arrived if each[1].finish_reason != "refused"]
        variant.drawn += [Drawn(request, completion, self._verdict(completion)) for request, completion in served]
        if len(served) < len(arrived):
            refusal = next(completion.refusal for _, completion in arrived if completion.finish_reason == "refused")
            variant.reject("request refused", refusal)
            return []
        right, undecided = variant.count(Verdict.right), variant.count(Verdict.undecided)
        decision = self.method.band.decide(right, undecided, len(variant.drawn))
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
        return self.method.grade(completion.text, self.parent.answer)
