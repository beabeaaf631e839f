"""Prompts and grading of synthesis for each kind of grader: final answers, programs with tests, tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from augmenters.synthesis.checks.second_route import UNSOLVABLE, program_answer, text_answer
from augmenters.synthesis.strategies import prompt_file
from augmenters.synthesis.variants import SecondRoute, SourceRow
from curate.component import call_hook
from curate.data.examples import Examples
from curate.errors import InputError
from curate.evaluation.grading import fitting, references, verdicts
from curate.generators.requests import Sampling
from curate.graders import JSON, Math, Tests
from curate.verify import Verdict, grade, same_answer

_LOOKED_AT = 200  # rows used to find the grader that fits
_TESTED_BY = (
    *("test", "tests", "test_code", "test_list", "unit_tests", "assertions"),
    *("test_setup_code", "test_imports", "test_setup", "entry_point", "entry", "function_name"),
)
_FAILED = "an answer that is graded as wrong"


@dataclass(frozen=True)
class Domain:
    """One kind of problem. grader: None = final answers, by the rules in docs/answers.md.

    prompts: names of the prompt files for variation, solution and second route. copied: columns of the input that new
    rows keep from their parent, since they are graded by them.
    """

    grader: Any = None
    prompts: tuple[str, str, str] = ("variation", "solution", "second_text")
    copied: tuple[str, ...] = ()

    @property
    def of_answers(self) -> bool:
        """Whether problems have a final answer, which strategies and checks depend on."""
        return self.grader is None

    @property
    def of_calls(self) -> bool:
        """Whether solutions are tool calls, compared by value."""
        return isinstance(self.grader, JSON)

    def prompt(self, number: int) -> str:
        return prompt_file(self.prompts[number])

    def references(self, examples: Examples, pairs: Sequence[tuple[str, str] | None]) -> list[str | None]:
        """(n,) reference of each row for grading. pairs: (problem, solution), or None for a row that cannot be used."""
        finals: list[str | None] = [None] * len(examples)
        if "final_answer" in examples.columns:
            finals = [None if answer is None else str(answer) for answer in examples.column("final_answer").to_pylist()]
        texts = [pair or ("", "") for pair in pairs]
        cells = examples.table.to_pylist()
        return references(self.grader, [a for a, _ in texts], [b for _, b in texts], finals, cells)

    def grade(self, text: str, reference: str, cells: Mapping[str, Any]) -> Verdict:
        (verdict,) = verdicts(self.grader, [text], [reference], [cells], [False])
        return verdict

    def answer(self, text: str, verdict: Verdict) -> str | None:
        """The answer of a second-route completion, for comparison with others; None if there is none."""
        if verdict == Verdict.right:
            return None
        if UNSOLVABLE in text.lower() and "```" not in text and "<tool_call>" not in text:
            return UNSOLVABLE
        if isinstance(self.grader, JSON):
            answer = call_hook(self.grader, "extract", text, False)
            return None if answer is None else str(answer)
        return _FAILED if verdict == Verdict.wrong else None


MATHS = Domain()


def domain_of(examples: Examples, grader: Any, pairs_of: Any, *, run_programs: bool) -> Domain:
    """The domain of the examples. grader: the one that was named; None = the one that fits.

    pairs_of: returns the (problem, solution) pairs of examples, also those with tools. InputError for programs without
    consent.
    """
    if isinstance(grader, Math):
        return MATHS
    if grader is None:
        grader = _fitting(examples, pairs_of)
        if grader is None:
            return MATHS
    if getattr(grader, "runs_programs", False) and not run_programs:
        raise InputError(
            f"Synthesize: grader {type(grader).__name__} runs programs that the model writes, which is not done "
            "unasked; pass --run-programs, or name another grader (--grader math)"
        )
    call_hook(grader, "check")
    if isinstance(grader, Tests):
        copied = tuple(name for name in _TESTED_BY if name in examples.table.column_names)
        return Domain(grader, ("variation_code", "solution_code", "second_code"), copied)
    if isinstance(grader, JSON):
        tools = examples.columns.get("tools")
        return Domain(grader, ("variation_calls", "solution_calls", "second_calls"), (tools,) if tools else ())
    return Domain(grader)


def _fitting(examples: Examples, pairs_of: Any) -> Any:
    """Tests or JSON if the rows are graded by them; else None, which means final answers."""
    if examples.shape == "text":
        return None
    places = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _LOOKED_AT)).astype(np.int64))
    sample = examples.take(places)
    texts = [pair or ("", "") for pair in pairs_of(sample)]
    finals: list[str | None] = [None] * len(sample)
    grader, _ = fitting([a for a, _ in texts], [b for _, b in texts], finals, sample.table.to_pylist())
    return grader if isinstance(grader, Tests | JSON) else None


def tools_text(tools: Any) -> str:
    """The tools of a row, one JSON object per line."""
    return "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools or ())


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
