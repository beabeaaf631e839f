"""All variants of a source row: their requests in sequence, and the decisions based on completions."""

from __future__ import annotations

from typing import Literal, NamedTuple

from augmenters.synthesis.checks import second_route
from augmenters.synthesis.checks.difference import difference
from augmenters.synthesis.checks.grounded import solution_fault
from augmenters.synthesis.checks.registry import (
    CHECKS,
    OF_PROBLEMS,
    OF_SOLUTIONS,
    OF_TASKS,
    REASONS,
    Check,
    problem_faults,
    solution_faults,
    task_faults,
)
from augmenters.synthesis.prompts import chat, has_control_characters, parse_problem, problem_fault
from augmenters.synthesis.strategies import shown_contexts
from augmenters.synthesis.variants import KEPT, SampledSolution, SourceRow, SynthesisSettings, Variant
from curate.generators.requests import Completion, Request
from curate.seeds import derive_seed
from curate.verify import Verdict

NOTHING_TO_SHOW = "the strategy can show nothing of the solution"
PARENT_TOO_EASY, PARENT_TOO_HARD = "parent solved too often", "parent solved too seldom"
NO_RIGHT_SOLUTION = "no right solution of the parent"


class Ticket(NamedTuple):
    """Identifies where a completion belongs. variant: -1 for the solutions of the parent."""

    variant: int
    kind: Literal["parent", "proposal", "solution", "second"]
    sample: int = 0


Asked = list[tuple[Request, Ticket]]


class VariantGroup:
    """All variants of one source row.

    `begin` returns the first requests; `receive` takes a completion and returns the next ones. Proposals are judged
    when all of them have arrived, and samples when a whole round has, so that requests never depend on the order
    in which completions arrive.

    demand: index of the demand for synthetic rows, which makes the ids of new rows distinct.
    parent: the generator's solutions of the source row, if the settings require them.
    """

    def __init__(self, source: SourceRow, settings: SynthesisSettings, seed: int, demand: int = 0) -> None:
        self.source, self.settings, self.demand = source, settings, demand
        self.variants = [Variant(number) for number in range(settings.variants)]
        self.parent: list[SampledSolution] = []
        self.seed = seed
        self._round: dict[int, dict[int, tuple[Request, Completion]]] = {}
        self._asked: dict[int, int] = {}
        if not settings.solves_parents:
            self._write([source.solution])

    @property
    def finished(self) -> bool:
        return all(variant.outcome is not None for variant in self.variants)

    @property
    def untouched(self) -> bool:
        """Whether no completion of the group has arrived yet."""
        arrived = self.parent or any(self._round.values())
        return not arrived and all(variant.proposal is None for variant in self.variants)

    def begin(self) -> Asked:
        """The first requests, each with the ticket to return with its completion."""
        if not self.settings.solves_parents:
            return self._proposals()
        strategy, source = self.settings.strategy, self.source
        if self.settings.context == "given" and not shown_contexts(strategy, source.problem, [source.solution]):
            return self._reject_all(NOTHING_TO_SHOW)  # whatever the parent's solutions are
        return self._solutions(self.source.problem, -1, "parent", range(self.settings.band.samples))

    def receive(self, ticket: Ticket, request: Request, completion: Completion) -> Asked:
        """Take the completion of a request; returns the requests that follow from it."""
        if ticket.kind == "proposal":
            self.variants[ticket.variant].proposal = completion
            proposed = [variant for variant in self.variants if variant.request is not None]
            return self._judge_proposals() if all(variant.proposal for variant in proposed) else []
        arrived = self._round[ticket.variant]
        arrived[ticket.sample] = (request, completion)
        if len(arrived) < self._asked[ticket.variant]:
            return []
        if ticket.kind == "parent":
            return self._judge_parent()
        variant = self.variants[ticket.variant]
        return self._judge_round(variant) if ticket.kind == "solution" else self._judge_second(variant)

    # -- the parent, where the generator solves it first -----------------------------------------------------------

    def _judge_parent(self) -> Asked:
        self.parent = self._graded(-1)
        if (refusal := self._refusal(-1)) is not None:
            return self._reject_all("request refused", refusal)
        right = [solution.completion.text for solution in self.parent if solution.verdict == Verdict.right]
        fault = None
        if self.settings.parents is not None:
            low, high = self.settings.parents
            fault = PARENT_TOO_HARD if len(right) < low else PARENT_TOO_EASY if len(right) > high else None
        if self.settings.context == "given":
            contexts = [self.source.solution]
        else:
            contexts = [text.strip() for text in right if not has_control_characters(text)]
        fault = fault or (None if contexts else NO_RIGHT_SOLUTION)
        if fault is not None:
            return self._reject_all(fault, f"{len(right)} of {len(self.parent)} right")
        self._write(contexts)
        return self._proposals()

    def _reject_all(self, reason: str, detail: str | None = None) -> Asked:
        for variant in self.variants:
            variant.reject(reason, detail)
        return []

    # -- proposals -------------------------------------------------------------------------------------------------

    def _write(self, contexts: list[str]) -> None:
        """Set the request of each variant, which is shown one of the solutions in turn."""
        settings = self.settings
        usable = shown_contexts(settings.strategy, self.source.problem, contexts)
        if not usable:
            self._reject_all(NOTHING_TO_SHOW)
        seed = derive_seed(self.seed, "variation", self.source.example_id)
        for variant in self.variants if usable else ():
            variant.context, texts = usable[variant.number % len(usable)]
            prompt = chat(settings.variation_prompt, {**texts, "tools": self.source.tools})
            variant.request = Request(prompt, settings.variation_sampling, seed, variant.number)

    def _proposals(self) -> Asked:
        requests = ((variant.number, variant.request) for variant in self.variants)
        return [(request, Ticket(number, "proposal")) for number, request in requests if request is not None]

    def _judge_proposals(self) -> Asked:
        seen: set[str] = set()
        for variant in self.variants:
            if variant.outcome is None:
                self._judge_proposal(variant, seen)
        open_ones = [variant for variant in self.variants if variant.outcome is None]
        collisions = self.settings.screen([variant.problem or "" for variant in open_ones])
        for variant, collision in zip(open_ones, collisions, strict=True):
            if collision is not None:
                variant.reject(*collision)
            variant.screened = collision is None
        return [request for variant in open_ones if variant.screened for request in self._next_round(variant)]

    def _judge_proposal(self, variant: Variant, seen: set[str]) -> None:
        assert variant.proposal is not None
        if variant.proposal.finish_reason == "refused":
            return variant.reject("request refused", variant.proposal.refusal)
        cut = variant.proposal.finish_reason == "length"
        problem = parse_problem(variant.proposal.text, cut_off=cut)
        if problem is None:
            return variant.reject("proposal cut off" if cut else "no problem in the proposal")
        variant.problem, parent, settings = problem, self.source.problem, self.settings
        variant.difference = difference(problem, parent)
        fault = problem_fault(problem, settings.longest_problem)
        plain = " ".join(problem.lower().split())
        if fault is None and plain in seen:
            fault = "same as another variant of its parent"
        seen.add(plain)
        if fault is not None:
            return variant.reject(fault)
        if settings.of_answers:
            faults = problem_faults(problem, self.source.answer, parent, settings.least_difference, settings.checks)
            return self._note(variant, OF_PROBLEMS, faults)
        source = (variant.context or self.source.solution, parent)
        faults = task_faults(problem, *source, settings.least_difference, settings.checks)
        return self._note(variant, OF_TASKS, faults)

    def _note(self, variant: Variant, checks: tuple[Check, ...], faults: dict[Check, str]) -> None:
        """Record the checks that ran and the faults they found; the first fault is the outcome."""
        variant.checked += [check for check in checks if check in self.settings.checks]
        variant.faults |= faults
        first = next((check for check in CHECKS if check in faults), None)
        if first is not None:
            variant.reject(REASONS[first], faults[first])

    # -- solutions -------------------------------------------------------------------------------------------------

    def _solutions(self, problem: str, number: int, kind: Literal["parent", "solution"], samples: range) -> Asked:
        prompt = chat(self.settings.solution_prompt, {"problem": problem, "tools": self.source.tools})
        seed = derive_seed(self.seed, kind, self.source.example_id, number)
        self._round[number], self._asked[number] = {}, len(samples)
        return [
            (Request(prompt, self.settings.solution_sampling, seed, sample), Ticket(number, kind, sample))
            for sample in samples
        ]

    def _next_round(self, variant: Variant) -> Asked:
        band, sampled = self.settings.band, len(variant.drawn)
        count = band.next_samples(variant.count(Verdict.right), variant.count(Verdict.undecided), sampled)
        assert variant.problem is not None
        return self._solutions(variant.problem, variant.number, "solution", range(sampled, sampled + count))

    def _judge_round(self, variant: Variant) -> Asked:
        variant.drawn += self._graded(variant.number)
        if (refusal := self._refusal(variant.number)) is not None:
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
            return self._check_solutions(variant)
        return []

    def _check_solutions(self, variant: Variant) -> Asked:
        checks, problem = self.settings.checks, variant.problem or ""
        if not self.settings.of_answers:
            checks = frozenset()
        right, wrong = (variant.texts(verdict) for verdict in (Verdict.right, Verdict.wrong))
        checks_made = OF_SOLUTIONS if self.settings.of_answers else ()
        self._note(variant, checks_made, solution_faults(problem, right, wrong, self.settings.band.low, checks))
        if variant.outcome is not None:
            return []
        variant.confirmed = True
        if "grounded" in checks:
            variant.chosen = _first_grounded(variant)
        if self.settings.second is None:
            variant.outcome = KEPT
            return []
        return self._second_requests(variant)

    # -- the second route ------------------------------------------------------------------------------------------

    def _second_requests(self, variant: Variant) -> Asked:
        second = self.settings.second
        assert second is not None
        assert variant.problem is not None
        prompt = chat(second.prompt, {"problem": variant.problem, "tools": self.source.tools})
        seed = derive_seed(self.seed, "second", self.source.example_id, variant.number)
        self._round[variant.number], self._asked[variant.number] = {}, second.samples
        return [
            (Request(prompt, second.sampling, seed, sample), Ticket(variant.number, "second", sample))
            for sample in range(second.samples)
        ]

    def _judge_second(self, variant: Variant) -> Asked:
        second = self.settings.second
        assert second is not None
        variant.second = self._graded(variant.number, second=True)
        if (refusal := self._refusal(variant.number)) is not None:
            variant.reject("request refused", refusal)
            return []
        answers = [second.answer(solution.completion.text, solution.verdict) for solution in variant.second]
        fault = second_route.fault([solution.verdict for solution in variant.second], answers)
        self._note(variant, ("second_route",), {} if fault is None else {"second_route": fault})
        if variant.outcome is None:
            variant.outcome = KEPT
        return []

    # -- grading ---------------------------------------------------------------------------------------------------

    def _graded(self, number: int, *, second: bool = False) -> list[SampledSolution]:
        arrived = [solution for _, solution in sorted(self._round[number].items())]
        route = self.settings.second if second else self.settings
        assert route is not None
        return [
            # A solution that was cut off does not count, whatever number its last line contains.
            SampledSolution(
                request,
                completion,
                Verdict.wrong if completion.finish_reason == "length" else route.grade(completion.text, self.source),
            )
            for request, completion in arrived
            if completion.finish_reason != "refused"
        ]

    def _refusal(self, number: int) -> str | None:
        """The server's reason for refusing the first refused request of a round; None if it refused none."""
        completions = (completion for _, completion in self._round[number].values())
        first = next((completion for completion in completions if completion.finish_reason == "refused"), None)
        return None if first is None else first.refusal or ""


def _first_grounded(variant: Variant) -> SampledSolution | None:
    """The first right solution in plain text that calculates only with what the problem states."""
    for solution in variant.drawn:
        text = solution.completion.text
        plain = solution.verdict == Verdict.right and not has_control_characters(text)
        if plain and solution_fault(variant.problem or "", text) is None:
            return solution
    return None
