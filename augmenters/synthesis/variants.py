"""Variants of source rows: their source, their settings, and their outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from augmenters.synthesis.checks.registry import Check
from augmenters.synthesis.prompts import has_control_characters
from augmenters.synthesis.strategies import Strategy
from curate.generators.requests import Completion, Request, Sampling
from curate.verify import Verdict
from curate.verify.verdict import Decision, PassRateBand

# Outcomes of a variant besides the reasons for rejection below.
KEPT = "kept"
UNFINISHED = "budget reached"
GIVEN_UP = "given up"


@dataclass(frozen=True)
class SourceRow:
    """A row of the input to write variants of. row: its position; answer: its final answer or other reference;
    cells: columns that a grader may read, by name; tools: that a solution may call, as text."""

    row: int
    example_id: str
    problem: str
    solution: str
    answer: str
    cells: Mapping[str, Any] = field(default_factory=dict)
    tools: str = ""


@dataclass(frozen=True)
class SecondRoute:
    """The second route to an answer: samples drawn with a separate prompt that shows only the problem.

    answer: (completion, its verdict) -> its answer, None = none. grade: (completion, source) -> Verdict.
    """

    samples: int
    prompt: str
    sampling: Sampling
    answer: Callable[[str, Verdict], str | None]
    grade: Callable[[str, SourceRow], Verdict]


@dataclass(frozen=True)
class SynthesisSettings:
    """How variants are made; see `augmenters.Synthesize` for the meaning of each.

    grade: (completion, source) -> Verdict. screen: problems -> (reason, what it collides with) for each, or None.
    second: None = no second route. of_answers: whether problems have final answers, which most checks require.
    parents: (low, high) number of the parent's solutions that must be right.
    """

    variants: int
    band: PassRateBand
    variation_sampling: Sampling
    solution_sampling: Sampling
    variation_prompt: str
    solution_prompt: str
    longest_problem: int
    grade: Callable[[str, SourceRow], Verdict]
    screen: Callable[[Sequence[str]], Sequence[tuple[str, str] | None]]
    strategy: Strategy = "variation"
    context: Literal["given", "sampled"] = "given"
    parents: tuple[int, int] | None = None
    checks: frozenset[Check] = frozenset()
    least_difference: float = 0.2
    second: SecondRoute | None = None
    of_answers: bool = True

    def decide(self, variant: Variant) -> Decision | None:
        """The decision on a variant by the solutions drawn so far; None = none yet."""
        return self.band.decide(variant.count(Verdict.right), variant.count(Verdict.undecided), len(variant.drawn))

    @property
    def solves_parents(self) -> bool:
        """Whether the generator solves a source row before it writes variants of it."""
        return self.parents is not None or self.context == "sampled"


@dataclass(frozen=True)
class SampledSolution:
    """A sampled solution and its verdict against the original answer."""

    request: Request
    completion: Completion
    verdict: Verdict


@dataclass
class Variant:
    """A proposed problem.

    request: None until the solution to write it from is known; context: that solution.
    screened: whether the problem passed the checks and the gate, so that it is worth solving.
    confirmed: whether the checks of its solutions passed too.
    second: completions of the second route.
    faults: check -> fault it found; all of those that were checked together.
    checked: the checks that ran.
    difference: from its parent, see `checks.difference`.
    outcome: None while open; "kept", or the reason why it was rejected; detail: such as what it collided with.
    """

    number: int
    request: Request | None = None
    context: str | None = None
    proposal: Completion | None = None
    problem: str | None = None
    drawn: list[SampledSolution] = field(default_factory=list)
    second: list[SampledSolution] = field(default_factory=list)
    screened: bool = False
    confirmed: bool = False
    difference: float | None = None
    checked: list[Check] = field(default_factory=list)
    faults: dict[Check, str] = field(default_factory=dict)
    chosen: SampledSolution | None = None
    outcome: str | None = None
    detail: str | None = None

    def count(self, verdict: Verdict) -> int:
        return sum(solution.verdict == verdict for solution in self.drawn)

    def texts(self, verdict: Verdict) -> list[str]:
        return [solution.completion.text for solution in self.drawn if solution.verdict == verdict]

    @property
    def solution(self) -> SampledSolution | None:
        """The new row's completion: the solution that the checks chose, else the first right one that is plain text."""
        right = (solution for solution in self.drawn if solution.verdict == Verdict.right)
        plain = (solution for solution in right if not has_control_characters(solution.completion.text))
        return self.chosen or next(plain, None)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated for this variant: proposal, solutions and second route together."""
        every = [self.proposal, *(solution.completion for solution in (*self.drawn, *self.second))]
        return sum(completion.completion_tokens for completion in every if completion is not None)

    def reject(self, reason: str, detail: str | None = None) -> None:
        self.outcome, self.detail = reason, detail
