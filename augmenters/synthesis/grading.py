"""Grading of sampled solutions and second routes, by the domain of the rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from augmenters.synthesis.checks.second_route import program_answer, text_answer
from augmenters.synthesis.domains import Domain
from augmenters.synthesis.strategies import prompt_file
from augmenters.synthesis.variants import SecondRoute, SourceRow
from curate.generators.requests import Sampling
from curate.verify import Verdict, grade, same_answer


def grading(domain: Domain, *, run_programs: bool) -> Callable[[str, SourceRow], Verdict]:
    """A function (completion, source) -> Verdict."""
    return partial(_by_answer, run_programs=run_programs) if domain.of_answers else partial(_by_grader, domain)


def second_route_of(
    domain: Domain, samples: int, sampling: Sampling, *, program: bool, run_programs: bool
) -> SecondRoute:
    """The second route. program: whether the answer is what a program prints, if there are final answers."""
    grades = grading(domain, run_programs=run_programs)
    if not domain.of_answers:
        return SecondRoute(samples, domain.prompt(2), sampling, domain.answer, grades)
    if program:
        return SecondRoute(samples, prompt_file("second_program"), sampling, program_answer, _by_program)
    return SecondRoute(samples, domain.prompt(2), sampling, text_answer, grades)


def _by_answer(text: str, source: SourceRow, *, run_programs: bool) -> Verdict:
    # The prompt asks for a marked answer; an unmarked last number may be anything.
    return grade(text, source.answer, strong_only=True, run_programs=run_programs)


def _by_grader(domain: Domain, text: str, source: SourceRow) -> Verdict:
    return domain.grade(text, source.answer, source.cells)


def _by_program(text: str, source: SourceRow) -> Verdict:
    """The answer printed by a completion's program; None if no program in it runs."""
    printed = program_answer(text)
    return Verdict.undecided if printed is None else same_answer(printed, source.answer)
