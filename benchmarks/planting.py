"""Generate problems with a computable truth, some of them faulty, and a scripted solver of stated accuracy."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from benchmarks.planting_wordings import (
    NUMBER,
    SENTENCE,
    WORDED,
    Unfit,
    WordedKind,
    Wordings,
    replaced,
    spoil,
)
from curate.generators.requests import Completion
from curate.seeds import derive_seed
from curate.word_problems.solution import Draw, show
from curate.word_problems.table import _BUILDERS
from curate.word_problems.wording import question_text

# A case is a problem that a generator might have proposed for a parent whose answer is known. Sound ones have that
# answer. Unsound ones have another (a number was altered), none (one is missing), two (statements that contradict
# each other), or a number that nothing needs (superfluous); or they are spoiled in words (`planting_wordings`). The
# solver's errors are those of `Solver`; benchmarks/LOG.md states them.

Kind = Literal["sound", "altered", "missing", "contradictory", "superfluous"] | WordedKind
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[-+*/()]")


@dataclass(frozen=True)
class Steps:
    """Equations whose numbers are given, constant, or results of earlier equations.

    lines: per equation its tokens; ("result", k) is that of equation k, ("given", "12") a number of the problem.
    """

    lines: tuple[tuple[tuple[str, Any], ...], ...]

    def run(
        self, given: dict[str, str] | None = None, slips: dict[int, Fraction] | None = None
    ) -> list[tuple[str, str]]:
        """(left, right) of each equation as text. given: other numbers in place of those given; slips: equation ->
        what is added to its result."""
        results: list[Fraction] = []
        shown = []
        for number, line in enumerate(self.lines):
            words = [self._word(token, results, given or {}) for token in line]
            value = _value(words) + (slips or {}).get(number, Fraction(0))
            results.append(value)
            shown.append((" ".join(words), show(value)))
        return shown

    def givens(self) -> list[str]:
        """The numbers of the problem that the equations use."""
        return list(dict.fromkeys(text for line in self.lines for kind, text in line if kind == "given"))

    @staticmethod
    def _word(token: tuple[str, Any], results: list[Fraction], given: dict[str, str]) -> str:
        kind, text = token
        if kind == "given":
            return given.get(text, text)
        value = show(results[text]) if kind == "result" else text
        return f"({value})" if "/" in value and kind == "result" else value


def _value(words: Sequence[str]) -> Fraction:
    text = re.sub(r"\d+(?:\.\d+)?", lambda number: f"Fraction('{number[0]}')", " ".join(words))
    try:
        return Fraction(eval(text, {"__builtins__": {}, "Fraction": Fraction}))
    except ZeroDivisionError as error:
        raise Unfit from error


@dataclass(frozen=True)
class Case:
    """A proposed problem. answer: the parent's; truth: its own, None where it has none. sound: the equations that its
    own numbers make; number, other: the number (or unit) that was altered, left out or contradicted, and what stands
    there."""

    name: str
    kind: Kind
    parent: str
    problem: str
    answer: str
    truth: str | None
    steps: Steps
    number: str | None = None
    other: str | None = None


def word_problems(families: Sequence[str], count: int, seed: int) -> list[tuple[str, str, Steps]]:
    """(name, text, steps) of generated word problems, a quarter of each level, without facts that do not matter."""
    problems: list[tuple[str, str, Steps]] = []
    place = 0
    while len(problems) < count:
        place += 1
        level, family = 1 + place % 4, families[place % len(families)]
        draw = Draw(derive_seed(seed, "planted", family, level, place))
        problem = _BUILDERS[family](draw, level)
        plain = type(problem)(problem.facts, problem.question, "", problem.steps)
        text = question_text(draw, level, plain)
        try:
            steps = _steps([(step.left, show(step.value)) for step in problem.steps], text)
        except Unfit:
            continue
        problems.append((f"{family}-{level}-{place}", text, steps))
    return problems


def gym_problems(path: Path, subjects: Sequence[str], count: int, seed: int) -> list[tuple[str, str, Steps]]:
    """(name, text, steps) of tasks of reasoning_gym whose equations are known."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["subject"] in subjects]
    random.Random(derive_seed(seed, "planted gym")).shuffle(rows)
    problems = []
    for row in rows:
        try:
            problems.append(
                (f"{row['subject']}-{row['id']}", row["question"], _steps(_gym_lines(row), row["question"]))
            )
        except Unfit:
            continue
        if len(problems) == count:
            break
    return problems


def _gym_lines(row: dict[str, Any]) -> list[tuple[str, str]]:
    text, subject = row["question"], row["subject"]
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    if subject in ("chain_sum", "decimal_chain_sum"):
        left = text.rpartition(":")[2].replace("=", "").strip()
    elif subject == "products":
        left = text.partition(":")[2].partition(". Give")[0].strip()
    elif subject == "simple_equations":
        match = re.search(r"(\d+)\*[a-z] \+ (\d+) = (\d+)$", text)
        if match is None:
            raise Unfit
        middle = show(Fraction(match[3]) - Fraction(match[2]))
        return [(f"{match[3]} - {match[2]}", middle), (f"{middle} / {match[1]}", row["final_answer"])]
    else:
        sides, _, *angles = numbers
        total = show((Fraction(sides) - 2) * 180)
        return [(f"( {sides} - 2 ) * 180", total), (" - ".join([total, *angles]), row["final_answer"])]
    if not re.fullmatch(r"[\d.+* -]+", left) or re.search(r"-\d", left):
        raise Unfit
    return [(left, row["final_answer"])]


def _steps(lines: Sequence[tuple[str, str]], text: str) -> Steps:
    """The equations with references in place of earlier results; Unfit where what a number is stays open."""
    stated = set(NUMBER.findall(text))
    made: list[tuple[tuple[str, Any], ...]] = []
    values: dict[str, int] = {}
    for left, value in lines:
        tokens: list[tuple[str, Any]] = []
        for word in _TOKEN.findall(left):
            if word in values and word in stated:
                raise Unfit
            kind = "result" if word in values else "given" if word in stated else "constant"
            tokens.append((kind, values[word] if kind == "result" else word))
        made.append(tuple(tokens))
        values[value] = len(made) - 1
    steps = Steps(tuple(made))
    if not steps.givens() or any(
        Fraction(right) != Fraction(value) for (_, right), (_, value) in zip(steps.run(), lines, strict=True)
    ):
        raise Unfit
    return steps


def plant(name: str, text: str, steps: Steps, kind: Kind, parent: str, dice: random.Random, wordings: Wordings) -> Case:
    """The problem, spoiled as asked for. Raises Unfit where that is not possible."""
    answer = steps.run()[-1][1]
    if kind in WORDED:
        worded = spoil(kind, text, answer, steps.givens(), dice, wordings)
        instead = _another(worded.was, dice) if kind == "vague" and worded.was else worded.instead
        return Case(name, kind, parent, worded.text, answer, worded.truth, steps, worded.was, instead)
    if kind == "sound":
        return Case(name, kind, parent, text, answer, answer, steps)
    once = [each for each in steps.givens() if len(NUMBER.findall(text)) and NUMBER.findall(text).count(each) == 1]
    if kind == "superfluous":
        number = str(dice.choice([each for each in range(3, 90) if str(each) not in NUMBER.findall(text)]))
        extra = dice.choice(
            (
                f"There are also {number} chairs in the room.",
                f"The whole thing took {number} minutes to write down.",
                f"Last year there were {number} more visitors.",
            )
        )
        sentences = SENTENCE.split(text)
        sentences.insert(dice.randrange(len(sentences)), extra)
        return Case(name, kind, parent, " ".join(sentences), answer, None, steps, None, number)
    dice.shuffle(once)
    for number in once:
        other_number = _another(number, dice)
        try:
            truth = steps.run({number: other_number})[-1][1]
        except Unfit:
            continue
        if truth == answer or other_number in NUMBER.findall(text):
            continue
        if kind == "altered":
            return Case(
                name, kind, parent, replaced(text, number, other_number), answer, truth, steps, number, other_number
            )
        if kind == "missing":
            return Case(name, kind, parent, replaced(text, number, "some"), answer, None, steps, number)
        statement = dice.choice(
            (f"Later it turns out to be {other_number}.", f"Another note says {other_number} in place of {number}.")
        )
        sentences = SENTENCE.split(text)
        at = next(place for place, each in enumerate(sentences) if number in NUMBER.findall(each))
        sentence = replaced(sentences[at], number, other_number)
        again = (
            statement
            if sentence.endswith("?") or len(sentences) == 1
            else f"As said, {sentence[0].lower()}{sentence[1:]}"
        )
        sentences.insert(at + 1 if not sentence.endswith("?") else at, again)
        return Case(name, kind, parent, " ".join(sentences), answer, None, steps, number, other_number)
    raise Unfit


def _another(number: str, dice: random.Random) -> str:
    value = Fraction(number)
    change = (
        Fraction(dice.choice((1, 2, 3, 5))) if value < 30 else Fraction(max(1, int(value) // 10) * dice.choice((1, 2)))
    )
    return show(value + change if value <= change or dice.random() < 0.5 else value - change)


# Half as they are, a quarter altered, a quarter missing, contradictory or superfluous.
IN_NUMBERS: tuple[Kind, ...] = ("altered", "missing", "altered", "contradictory", "altered", "superfluous")


def cases(
    problems: Sequence[tuple[str, str, Steps]], seed: int, unsound: Sequence[Kind], wordings: Wordings
) -> list[Case]:
    """Every other problem as it is, the ones between spoiled by the kinds of `unsound` in turn."""
    wanted: list[Kind] = [kind for spoiled in unsound for kind in ("sound", spoiled)]
    made: list[Case] = []
    for name, text, steps in problems:
        dice = random.Random(derive_seed(seed, "plant", name))
        # A problem of another kind stands for the parent: whether a proposal is too near to it is measured apart.
        others = [each for other, each, _ in problems if other.partition("-")[0] != name.partition("-")[0]]
        parent = dice.choice(others) + " " + " ".join(steps.givens())
        try:
            made.append(plant(name, text, steps, wanted[len(made) % len(wanted)], parent, dice, wordings))
        except Unfit:
            continue
    return made


@dataclass(frozen=True)
class Errors:
    """How the scripted solver errs; shares, stated in benchmarks/LOG.md before they are used.

    prose: solutions without an equation that could be read. habit: problems on which half of the wrong solutions are
    one and the same. trapped, trapped_rate: altered problems on which so many of the wrong solutions arrive at the
    parent's answer; on others 5 of 100 do. guessed, guessed_rate: problems with a number missing for which so many of
    the solutions assume the number that stood there; for others 5 of 100 do.
    """

    prose: float = 0.3
    habit: float = 0.3
    trapped: float = 0.15
    trapped_rate: float = 0.5
    guessed: float = 0.2
    guessed_rate: float = 0.4


HARSHER = Errors(prose=0.6, habit=0.5, trapped=0.3, trapped_rate=0.7, guessed=0.4, guessed_rate=0.6)
_HABIT_RATE, _ACCIDENT = 0.5, 0.05


class Solver:
    """Scripted solutions of one case. accuracy: mean chance of a sound problem's answer per solution.

    The chance of a problem is drawn from Beta(4 a, 4 (1 - a)). Both routes share all that is drawn per problem: they
    err on the same problems in the same way, and differ in that the second notices more often that no answer exists.
    """

    def __init__(self, case: Case, accuracy: float, seed: int, errors: Errors) -> None:
        self.errors = errors
        self.case, self.seed = case, derive_seed(seed, case.name, case.kind, str(accuracy))
        dice = random.Random(self.seed)
        self.chance = dice.betavariate(4 * accuracy, 4 * (1 - accuracy))
        self.systematic = _HABIT_RATE if dice.random() < errors.habit else 0.0
        self.trapped = errors.trapped_rate if dice.random() < errors.trapped else _ACCIDENT
        self.guessed = errors.guessed_rate if dice.random() < errors.guessed else _ACCIDENT
        self.habit = dice.randrange(1 << 30)
        self._solved: dict[tuple[str, int], Completion] = {}

    def solve(self, route: str, sample: int) -> Completion:
        """A solution, the same each time; route: "solution" or "second"."""
        if (route, sample) not in self._solved:
            self._solved[route, sample] = self._solution(route, sample)
        return self._solved[route, sample]

    def _solution(self, route: str, sample: int) -> Completion:
        dice = random.Random(derive_seed(self.seed, route, sample))
        return Completion(getattr(self, f"_{self.case.kind}")(dice, route), "stop", 100, 120)

    def _sound(self, dice: random.Random, route: str) -> str:
        return self._worked(dice) if dice.random() < self.chance else self._wrong(dice)

    def _superfluous(self, dice: random.Random, route: str) -> str:
        text = self._sound(dice, route)
        return f"The {self.case.other} do not matter here.\n{text}" if dice.random() < 0.2 else text

    def _altered(self, dice: random.Random, route: str) -> str:
        assert self.case.number is not None
        assert self.case.other is not None
        if dice.random() < self.chance:
            return self._worked(dice, {self.case.number: self.case.other})
        if dice.random() < self.trapped:
            return self._lucky(dice)
        return self._wrong(dice, {self.case.number: self.case.other})

    def _missing(self, dice: random.Random, route: str) -> str:
        assert self.case.number is not None
        notices = self.chance * (0.8 if route == "second" else 0.4)
        if dice.random() < notices:
            return "A number is missing, so this cannot be worked out. \\boxed{unsolvable}"
        if dice.random() < self.guessed:
            return self._worked(dice) if dice.random() > self.errors.prose else self._prose(self.case.answer)
        return self._worked(dice, {self.case.number: _another(self.case.number, dice)})

    def _contradictory(self, dice: random.Random, route: str) -> str:
        assert self.case.number is not None
        assert self.case.other is not None
        if dice.random() >= self.chance:
            return self._wrong(dice)
        lot = dice.random() - (0.4 if route == "second" else 0.2)
        if lot < 0:
            return "Two statements contradict each other. \\boxed{unsolvable}"
        return self._worked(dice, {} if lot < 0.4 else {self.case.number: self.case.other})

    # The kinds that are spoiled in words.

    def _unit(self, dice: random.Random, route: str) -> str:
        case = self.case
        if dice.random() < self.chance:
            *worked, last = self._worked(dice).splitlines()
            converted = f"In {case.other} that is {case.truth}. \\boxed{{{case.truth}}}"
            return "\n".join([*worked, converted]) if worked else f"{last.partition(chr(92))[0]}{converted}"
        if dice.random() >= self.trapped:
            return self._wrong(dice)
        # The parent's answer: half of the solutions name the unit that the parent asks for.
        names = f" \\text{{ {case.number}}}" if dice.random() < 0.5 else ""
        return re.sub(r"\\boxed\{(.*)\}", lambda match: f"\\boxed{{{match[1]}{names}}}", self._worked(dice))

    def _remark(self, dice: random.Random, route: str) -> str:
        return self._sound(dice, route)

    def _impossible(self, dice: random.Random, route: str) -> str:
        if dice.random() >= self.chance:
            return self._wrong(dice)
        if dice.random() < (0.4 if route == "second" else 0.2):
            return "That cannot be. \\boxed{unsolvable}"
        return self._worked(dice)

    def _told(self, dice: random.Random, route: str) -> str:
        return f"It is stated. \\boxed{{{self.case.answer}}}" if dice.random() < 0.15 else self._sound(dice, route)

    def _two_asked(self, dice: random.Random, route: str) -> str:
        if dice.random() >= self.chance:
            return self._wrong(dice)
        text, lot = self._worked(dice), dice.random()
        second = show(Fraction(self.case.answer) + 1)
        if lot < 0.25:
            return f"{text}\nThe second: \\boxed{{{second}}}"
        return re.sub(r"\\boxed\{(.*)\}", rf"\\boxed{{\1 and {second}}}", text) if lot < 0.5 else text

    def _vague(self, dice: random.Random, route: str) -> str:
        return self._missing(dice, route)

    # -- texts -----------------------------------------------------------------------------------------------------

    def _worked(self, dice: random.Random, given: dict[str, str] | None = None, slips: Any = None) -> str:
        try:
            lines = self.case.steps.run(given, slips)
        except Unfit:
            return self._prose("0")
        if dice.random() < self.errors.prose:
            return self._prose(lines[-1][1])
        way = dice.randrange(3)
        shown = [
            f"Step {k}: {left} = {right}"
            if way == 0
            else f"We get {left} = {right}."
            if way == 1
            else f"${left} = {right}$"
            for k, (left, right) in enumerate(lines, 1)
        ]
        return "\n".join([*shown, f"The answer is \\boxed{{{lines[-1][1]}}}."])

    def _wrong(self, dice: random.Random, given: dict[str, str] | None = None) -> str:
        """Another answer: a slip in one equation, or a number read wrongly; the same each time where it is a habit."""
        dice = random.Random(self.habit) if dice.random() < self.systematic else dice
        steps = self.case.steps
        if dice.random() < 0.7:
            slip = Fraction(dice.choice((-10, -2, -1, 1, 2, 3, 5, 10, 12, 20)))
            return self._worked(dice, given, {dice.randrange(len(steps.lines)): slip})
        number = dice.choice(steps.givens())
        return self._worked(dice, {**(given or {}), number: _another(number, dice)})

    def _lucky(self, dice: random.Random) -> str:
        """The parent's answer where it is wrong: with the number that stood there, by a false equation, or in words."""
        lot = dice.random()
        if lot < self.errors.prose:
            return self._prose(self.case.answer)
        lines = self.case.steps.run()
        if lot < (1 + self.errors.prose) / 2:
            return "\n".join([*(f"We get {a} = {b}." for a, b in lines), f"The answer is \\boxed{{{lines[-1][1]}}}."])
        assert self.case.number is not None
        assert self.case.other is not None
        own = self.case.steps.run({self.case.number: self.case.other})
        own[-1] = (own[-1][0], self.case.answer)
        return "\n".join([*(f"We get {a} = {b}." for a, b in own), f"The answer is \\boxed{{{self.case.answer}}}."])

    @staticmethod
    def _prose(answer: str) -> str:
        return f"Putting all of this together leads to the result. \\boxed{{{answer}}}"
