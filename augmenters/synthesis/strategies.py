"""Strategies for proposing problems: the prompt file of each, and the values of its placeholders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib import resources
from typing import Literal, get_args

from augmenters.synthesis.checks.quantities import Equation, equations
from curate.verify.sandbox import program_in

# variation: only the solution is shown, and the model writes the problem it answers (SvS, arXiv 2508.14029).
# skeleton: only the operations of the solution are shown, so that the setting must be new.
# back_translation: the solution is shown as a program, and the model writes the word problem that it computes (as in
#     MathGenie, arXiv 2402.16352, and program-based back-translation).
# one_step_more: problem and solution are shown; one given number is to be replaced by something from
#     which it must be worked out, so that the answer stays the same and one more step leads to it (like Evol-Instruct,
#     arXiv 2304.12244, with the answer kept).

Strategy = Literal["variation", "skeleton", "back_translation", "one_step_more"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
PLACES: Mapping[Strategy, tuple[str, ...]] = {
    "variation": ("solution",),
    "skeleton": ("operations",),
    "back_translation": ("program",),
    "one_step_more": ("problem", "solution"),
}
_OPERATOR = re.compile(r"[-+*/^()]")


def prompt_file(name: str) -> str:
    """The text of a prompt shipped with this package."""
    return (resources.files("augmenters.synthesis.texts") / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def shown(strategy: Strategy, problem: str, solution: str) -> dict[str, str] | None:
    """Placeholder -> text for the prompt of a strategy; None if the solution holds nothing that it can show."""
    if strategy == "skeleton":
        lines = [f"{' '.join(equation.left)} = {_text(equation.result.value)}" for equation in _held(solution)]
        return {"operations": "\n".join(lines)} if lines else None
    if strategy == "back_translation":
        program = program_in(solution) or _as_program(_held(solution))
        return {"program": program} if program else None
    texts = {"problem": problem, "solution": solution}
    return {place: texts[place] for place in PLACES[strategy]}


def shown_contexts(strategy: Strategy, problem: str, solutions: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The solutions that a strategy can show, each with the values of its placeholders."""
    values = [(solution, shown(strategy, problem, solution)) for solution in solutions]
    return [(solution, places) for solution, places in values if places is not None]


def _held(solution: str) -> list[Equation]:
    return [equation for equation in equations(solution) if equation.holds]


def _as_program(steps: list[Equation]) -> str | None:
    """A program of the steps: each result is a variable that later steps refer to."""
    names: dict[Fraction, str] = {}
    lines = []
    for number, step in enumerate(steps, 1):
        words = [_operand(word, names) for word in step.left]
        name = f"step_{number}"
        lines.append(f"{name} = {' '.join(words)}  # {_text(step.result.value)}")
        names[step.result.value] = name
    return "\n".join([*lines, f"print(step_{len(steps)})"]) if steps else None


def _operand(word: str, names: Mapping[Fraction, str]) -> str:
    if _OPERATOR.fullmatch(word):
        return "**" if word == "^" else word
    if word.endswith("%"):
        return f"{word[:-1].replace(',', '')} / 100"
    plain = word.replace(",", "")
    return names.get(Fraction(plain if not plain.startswith(".") else "0" + plain), plain)


def _text(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"
