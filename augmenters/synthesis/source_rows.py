"""Select the rows that can have variants: those with one problem, one solution and a verifiable answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from augmenters.synthesis.call_messages import call_messages
from augmenters.synthesis.domains import MATHS, Domain, domain_of, tools_text
from augmenters.synthesis.new_rows import check_schema
from augmenters.synthesis.variants import SourceRow
from curate.data.examples import Examples
from curate.data.surroundings import PREAMBLE, question_with
from curate.data.turns import Turn
from curate.errors import InputError
from curate.tokenization.default_template import spoken
from curate.types import IntArray
from curate.verify import Verdict, grade, reference_answer
from curate.verify.sandbox import check_sandbox, printed_answer, program_in

NO_ANSWER = "no verifiable answer"
DISAGREES = "solution and final answer disagree"
NOT_ONE_TURN = "not one problem with one solution"
NO_SOLUTION = "answer without a worked solution"
_BLOCK = 1024
_LOOKED_AT = 1000
_AT_ONCE = 16


@dataclass(frozen=True)
class SourceRows:
    """rows: rows to start from, in row order; skipped: number of rows that cannot be used, by reason."""

    rows: list[SourceRow]
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> str:
        """The skipped rows in words."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))


def check_shape(examples: Examples) -> None:
    """Raise InputError if no row of this shape can have variants."""
    if examples.shape == "text":
        raise InputError(
            "Synthesize: rows of shape text are not divided into problem and solution; use data that is, or name the "
            "columns with --columns prompt=...,completion=..."
        )
    if examples.paired or "label" in examples.columns:
        kind = "preference pairs" if examples.paired else "completions with labels"
        raise InputError(
            f"Synthesize writes problems and right solutions, which are not {kind}; read the data as problems and "
            "solutions with --columns prompt=COLUMN,completion=COLUMN,label= to lose that, or leave Synthesize out"
        )


def find_domain(examples: Examples, grader: Any, *, run_programs: bool) -> Domain:
    """The domain of the rows: graded by `grader`, or the one that fits them."""
    return domain_of(
        examples, grader, lambda some: _pairs(some, with_tools=True, with_calls=True), run_programs=run_programs
    )


def check_examples(examples: Examples, domain: Domain, *, run_programs: bool) -> None:
    """Raise InputError if no row can have variants, judged by up to 1,000 rows spread over the data."""
    check_shape(examples)
    check_schema(examples, domain.copied)
    if run_programs:
        check_sandbox()
    rows = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), _LOOKED_AT)).astype(np.int64))
    skipped: Counter[str] = Counter()
    for part in np.array_split(np.random.default_rng(0).permutation(rows), -(-len(rows) // _AT_ONCE)):
        sample = source_rows(examples, np.sort(part), domain, run_programs=run_programs)
        if sample.rows:  # one row is enough: running programs takes time
            return
        skipped += sample.skipped
    raise InputError(
        "Synthesize: no row has a problem, a worked solution and an answer that can be verified "
        f"({SourceRows([], skipped).reasons}); name the column of final answers with --columns final_answer=COLUMN, or "
        "what grades the rows with --grader"
    )


def source_rows(
    examples: Examples, rows: IntArray, domain: Domain = MATHS, *, run_programs: bool = False
) -> SourceRows:
    """The rows at the given positions that can have variants; in domains of a grader, those with a reference.

    The final answer is the cell of the column with that role, else the one that the solution marks as final (a mere
    last number is not enough to grade by); with `run_programs`, what a solution that is a Python program prints.
    """
    usable: list[SourceRow] = []
    skipped: Counter[str] = Counter()
    for low in range(0, len(rows), _BLOCK):
        block = examples.take(rows[low : low + _BLOCK])
        if not domain.of_answers:
            _graded_rows(block, rows[low : low + _BLOCK], domain, usable, skipped)
            continue
        pairs = _pairs(block)
        answers = block.column("final_answer").to_pylist() if "final_answer" in block.columns else [None] * len(block)
        for row, example_id, pair, cell in zip(
            rows[low : low + _BLOCK].tolist(), block.ids.to_pylist(), pairs, answers, strict=True
        ):
            if pair is None:
                skipped[NOT_ONE_TURN] += 1
                continue
            problem, solution = pair
            answer = _answer(solution, cell, run_programs)
            if answer is None:
                skipped[NO_ANSWER] += 1
            elif solution.strip() == answer:
                skipped[NO_SOLUTION] += 1
            elif cell is not None and _contradicts(solution, answer):
                skipped[DISAGREES] += 1
            else:
                usable.append(SourceRow(row, example_id, problem, solution, answer))
    return SourceRows(usable, skipped)


def _graded_rows(
    block: Examples, rows: IntArray, domain: Domain, usable: list[SourceRow], skipped: Counter[str]
) -> None:
    """Add the rows of a block that the domain's grader can grade, and whose own solutions it finds right."""
    pairs = _pairs(block, with_tools=True, with_calls=domain.of_calls)
    references = domain.references(block, pairs)
    cells, surroundings = block.table.to_pylist(), block.surroundings(0, len(block))
    for place, (row, example_id) in enumerate(zip(rows.tolist(), block.ids.to_pylist(), strict=True)):
        pair, reference = pairs[place], references[place]
        if pair is None:
            skipped[NOT_ONE_TURN] += 1
        elif reference is None:
            skipped[NO_ANSWER] += 1
        elif domain.grade(pair[1], reference, cells[place]) == Verdict.wrong:
            skipped[DISAGREES] += 1
        else:
            tools = tools_text(surroundings[place].tools)
            usable.append(SourceRow(row, example_id, *pair, reference, cells[place], tools))


def _pairs(examples: Examples, *, with_tools: bool = False, with_calls: bool = False) -> list[tuple[str, str] | None]:
    """(problem, solution) of each row, or None. with_tools: also of rows with tools; with_calls: also of rows whose
    solution is calls in a field of a message, as text."""
    n = len(examples)
    if examples.shape == "messages":
        writable = call_messages(examples) if with_calls else [None] * n
        conversations = zip(examples.conversations(0, n), examples.surroundings(0, n), writable, strict=True)
        return [
            None if surroundings.tools and not with_tools else _of_turns(turns, with_calls=call is not None)
            for turns, surroundings, call in conversations
        ]
    if examples.shape == "instruction":
        inputs = examples.texts("input", 0, n) if "input" in examples.columns else [None] * n
        texts = zip(examples.texts("instruction", 0, n), inputs, strict=True)
        problems = [first if not (second or "").strip() else f"{first}\n\n{second}" for first, second in texts]
    else:
        problems = examples.texts("prompt", 0, n)
    rows = zip(problems, examples.answers(0, n), examples.surroundings(0, n), strict=True)
    return [
        (question_with(surroundings.context, problem), solution)
        if (problem or "").strip()
        and (solution or "").strip()
        and not (surroundings.history or (surroundings.tools and not with_tools))
        else None
        for problem, solution, surroundings in rows
    ]


def _of_turns(turns: list[Turn], *, with_calls: bool) -> tuple[str, str] | None:
    parts = [turn for turn in turns if turn["role"] not in PREAMBLE]
    if [turn["role"] for turn in parts] != ["user", "assistant"]:
        return None
    question, answer = parts
    calls = answer.get("tool_calls")
    if (calls and not with_calls) or not answer.get("train", True):
        return None
    problem = question["content"]
    solution = spoken({"content": "", "tool_calls": calls}) if calls else answer["content"]
    return (problem, solution) if problem.strip() and solution.strip() else None


def _answer(solution: str, cell: Any, run_programs: bool) -> str | None:
    if cell is not None and str(cell).strip():
        return str(cell).strip()
    marked = reference_answer(solution)
    if marked is not None or not run_programs:
        return marked
    program = program_in(solution)
    return None if program is None else printed_answer(program)


def _contradicts(solution: str, answer: str) -> bool:
    """Whether the solution marks a final answer that differs from the row's."""
    return reference_answer(solution) is not None and grade(solution, answer) == Verdict.wrong
