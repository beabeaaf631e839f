"""Prompts of an evaluation: a question in a training template, a chat or a plain form, preceded by solved examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.data.examples import Examples, hash_columns
from curate.data.surroundings import PREAMBLE
from curate.data.turns import Turn, last_learned
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.sets import Questions
from curate.generators.chat import as_messages
from curate.generators.requests import Prompt
from curate.graders import Math
from curate.models.trained_template import warn_of_template_change
from curate.seeds import derive_seed
from curate.tokenization.default_template import own_template
from curate.tokenization.layouts import Layout, Piece, RefusedRow, joined, only_last
from curate.tokenization.templates import chat_layouts, fixed, layouts, renderer
from curate.verify import reference_answer

# How a model that has not learned to end its text starts the next question.
_STOPS = {
    "question": ("Question:",),
    "alpaca": ("### Instruction:",),
    "plain": (),
    "chat": (),
    "headings": ("### User:", "### System:"),
}


@dataclass(frozen=True)
class Shots:
    """Solved examples: (k,) questions and worked solutions, each of which marks its final answer."""

    questions: tuple[str, ...] = ()
    solutions: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """32 hex digits."""
        columns = (("question", self.questions), ("solution", self.solutions))
        return hash_columns([(name, pa.array(texts, pa.large_string())) for name, texts in columns])


@dataclass(frozen=True)
class Form:
    """name: "question", "alpaca", "plain" or "chat". stop: texts with which a model starts the next question."""

    name: str
    stop: tuple[str, ...]


def form_of(settings: Evaluation, trained_with: str | None, tokenizer: Any | None) -> Form:
    """The prompt form of the style.

    trained_with: template of a fine-tuned model, None if unknown. tokenizer: None if only a server has it.
    """
    style = settings.style
    if style == "auto":
        style = "question" if trained_with is None and settings.template is None else "template"
    if style == "template":
        if settings.template is None and trained_with == "none":
            raise InputError("this run was trained on texts without prompts; pass --style question")
        name: str = settings.template or trained_with or "alpaca"
        form_name = None if trained_with == "none" else trained_with
        warn_of_template_change("that is evaluated", form_name, name, "leave --template out for its own")
    else:
        name = style
    return Form(name, stops_of(name, tokenizer))


def stops_of(name: str, tokenizer: Any | None) -> tuple[str, ...]:
    """Texts with which a model that does not end its answer starts the next question, by form or prompt template."""
    headings = name == "chat" and tokenizer is not None and not own_template(tokenizer)
    return _STOPS["headings" if headings else name]


def draw_shots(settings: Evaluation, pool: Questions | None, questions: Questions) -> Shots:
    """Solved examples for all questions of a set: rows with a worked solution whose question is not asked.

    If no row of the pool has a final answer, rows that are not graded are used as well.
    """
    if pool is None or not settings.shots:
        return Shots()
    question_texts = {_folded(text) for text in questions.texts}
    math = isinstance(pool.grader, Math)  # solutions are then shown with their final answer marked
    rows = [
        k
        for k, (text, answer, completion) in enumerate(zip(pool.texts, pool.answers, pool.completions, strict=True))
        if (answer or not math)
        and completion.strip() not in ("", answer if math else "")
        and _folded(text) not in question_texts
    ]
    if len(rows) < settings.shots:
        raise InputError(
            f"{settings.shots} shots are asked for, but {pool.description} has {len(rows)} rows with a worked solution "
            f"and a final answer that are not in {questions.name}; ask for fewer or name other data with --shots-from"
        )
    generator = np.random.default_rng(derive_seed(settings.seed, "shots"))
    chosen = [rows[k] for k in generator.choice(len(rows), settings.shots, replace=False).tolist()]
    solutions = (_marked(pool.completions[k], pool.answers[k]) if math else pool.completions[k] for k in chosen)
    return Shots(tuple(pool.texts[k] for k in chosen), tuple(solutions))


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _marked(solution: str, answer: str | None) -> str:
    """The solution with its final answer marked, so that the model sees that one is expected."""
    return solution if reference_answer(solution) is not None else f"{solution.rstrip()}\n#### {answer}"


def rows_of(questions: Questions, form: Form, shots: Shots, tokenizer: Any) -> list[Layout]:
    """(n,) rows: one prompt, shots included, and the reference completion. In a row that is too long, shots are dropped
    before any part of the question is.
    """
    n = len(questions)
    if form.name == "question":
        before = "".join(
            f"Question: {question}\nAnswer: {solution}\n\n"
            for question, solution in zip(shots.questions, shots.solutions, strict=True)
        )
        return [
            fixed(
                [
                    (before, "system"),
                    ("Question: ", "prompt"),
                    (question, "question"),
                    ("\nAnswer:", "prompt"),
                    (f" {completion}", "completion"),
                ]
            )
            for question, completion in zip(questions.texts, questions.completions, strict=True)
        ]
    if form.name == "chat":
        tools = [surroundings.tools for surroundings in questions.examples.surroundings(0, n)]
        return [only_last(row) for row in chat_layouts(tokenizer)(_conversations(questions, shots), tools)]
    solved = _pairs(list(shots.questions), list(shots.solutions))
    before = "".join(
        "".join(text for text, _ in row) + "\n\n" for row in renderer(solved, form.name, tokenizer)(0, len(solved))
    )
    examples = questions.examples
    if examples.shape == "messages":
        examples = _pairs(questions.texts, questions.completions)
    rows = layouts(examples, form.name, tokenizer)(0, n)
    return [_behind(before, row) for row in rows]


def _behind(before: str, row: Layout) -> Layout:
    return Layout(lambda dropped: [(before, "system"), *row.pieces(dropped)], row.older)


def pieces(questions: Questions, form: Form, shots: Shots, tokenizer: Any) -> list[list[Piece]]:
    """(n,) the same rows as (text, part), not truncated. Raises RefusedRow if the chat template cannot render one."""
    return [joined(row.pieces(0)) for row in rows_of(questions, form, shots, tokenizer)]


def rendered(
    questions: Questions, form: Form, shots: Shots, tokenizer: Any, on_bad_row: str
) -> tuple[Questions, list[Layout] | None]:
    """The questions that the model's template can render, and their rows (None without a tokenizer).

    Raises InputError for a question that it refuses, unless such questions are dropped.
    """
    if tokenizer is None:
        return questions, None
    rows = rows_of(questions, form, shots, tokenizer)
    refused: dict[int, str] = {}
    for k, row in enumerate(rows):
        try:
            row.pieces(0)
        except RefusedRow as error:
            refused[k] = str(error)
    if not refused:
        return questions, rows
    if on_bad_row == "error" or len(refused) == len(questions):
        first = min(refused)
        remark = f" ({len(refused) - 1:,} more such rows)" if len(refused) > 1 else ""
        remedy = "change the row or ask in another style, as with --style question"
        if len(refused) < len(questions):
            remedy = f"leave such rows out with --on-bad-row drop, {remedy}"
        raise InputError(
            f"evaluation set {questions.name}: row {questions.rows[first]} (counted from 0 in the input): "
            f"{refused[first]}{remark}; {remedy}"
        )
    return questions.without(refused), [row for k, row in enumerate(rows) if k not in refused]


def generation_prompts(
    rows: Sequence[Sequence[Piece]] | None,
    questions: Questions,
    form: Form,
    shots: Shots,
    tokenizer: Any | None,
    *,
    by_server: bool = False,
) -> list[Prompt]:
    """(n,) prompts of the same rows: exactly the text before their reference completion.

    The answer of a row is never part of its prompt. Text is joined, never formatted: braces in the data stay data.

    rows: None without a tokenizer; a chat is then sent as messages. by_server: whether a server tokenizes the prompts,
    which adds a beginning of sequence even if there is one.
    """
    if rows is not None:
        begin = _added_beginning(tokenizer) if by_server else ""
        texts = ("".join(text for text, part in row if part == "prompt") for row in rows)
        return [text.removeprefix(begin) for text in texts]
    if form.name == "chat":
        return [as_messages(conversation[:-1]) for conversation in _conversations(questions, shots)]
    return [
        "".join(text for text, part in row if part == "prompt") for row in pieces(questions, form, shots, tokenizer)
    ]


def tools_beside(
    rows: Sequence[object] | None, questions: Questions, form: Form
) -> list[list[dict[str, Any]] | None] | None:
    """(n,) tools that go with chats sent as messages; None if no row has any, or the prompts contain them.

    rows: as for `generation_prompts`.
    """
    if rows is not None or form.name != "chat":
        return None
    tools = [surroundings.tools for surroundings in questions.examples.surroundings(0, len(questions))]
    return tools if any(tools) else None


def unshown(questions: Questions, form: Form) -> str | None:
    """What rows hold that their prompts do not show in this form, with the remedy; None where all is shown."""
    if form.name == "chat":
        return None
    examples, n = questions.examples, len(questions)
    shows_question_only = form.name != "question" and examples.shape != "messages"
    missing: Counter[str] = Counter()
    for turns, surroundings in zip(examples.conversations(0, n), examples.surroundings(0, n), strict=True):
        if not shows_question_only:
            last = last_learned(turns)
            before = [turn["role"] in PREAMBLE for turn in turns[:last]]
            missing["tools"] += bool(surroundings.tools)
            missing["words of the system"] += any(before)
            missing["earlier turns"] += before.count(False) > 1
            missing["calls as answers"] += "tool_calls" in turns[last]
    parts = ", ".join(f"{part} in {rows:,} rows" for part, rows in missing.items() if rows)
    if not parts:
        return None
    return f"style {form.name} does not show {parts}; --style template --template chat shows them"


def _added_beginning(tokenizer: Any) -> str:
    bos = tokenizer.bos_token_id
    probe = tokenizer("a")["input_ids"]
    return str(tokenizer.bos_token) if bos is not None and len(probe) > 0 and probe[0] == bos else ""


def _conversations(questions: Questions, shots: Shots) -> list[list[Turn]]:
    """The conversations up to the answer that is asked for, with the solved examples after the system message."""
    solved = [
        turn
        for question, solution in zip(shots.questions, shots.solutions, strict=True)
        for turn in ({"role": "user", "content": question}, {"role": "assistant", "content": solution})
    ]
    conversations = []
    for turns in questions.examples.conversations(0, len(questions)):
        last = last_learned(turns)
        first = 1 if turns[0]["role"] in PREAMBLE else 0
        conversations.append([*turns[:first], *solved, *turns[first : last + 1]])
    return conversations


def _pairs(prompts: list[str], completions: list[str]) -> Examples:
    columns = {"prompt": pa.array(prompts, pa.large_string()), "completion": pa.array(completions, pa.large_string())}
    ids = pa.array([str(k) for k in range(len(prompts))], pa.string())
    return Examples(pa.table(columns), ids, "prompt_completion", {name: name for name in columns})
