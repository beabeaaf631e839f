"""Spoil problems in words: another unit, a remark, an impossible result, the answer told, a second question."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from curate.word_problems.solution import show

WordedKind = Literal["unit", "remark", "impossible", "told", "two_asked", "vague"]
WORDED: tuple[WordedKind, ...] = ("unit", "remark", "impossible", "told", "two_asked", "vague")
NUMBER = re.compile(r"(?<![\w./,])\d+(?:\.\d+)?(?![\w/]|[.,]\d)")
SENTENCE = re.compile(r"(?<=[.?]) ")

# Unit of a question -> the unit that is asked for instead, and how many of it make one.
_UNITS: dict[str, tuple[str, Fraction]] = {
    "dollars": ("cents", Fraction(100)),
    "cents": ("dollars", Fraction(1, 100)),
    "kilometres": ("metres", Fraction(1000)),
    "square feet": ("square inches", Fraction(144)),
    "feet": ("inches", Fraction(12)),
    "tonnes": ("kilograms", Fraction(1000)),
}
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_MOST_TOLD = 100_000  # larger answers are not written in words
_LEFT_OUT, _ASKED_WITHIN = 0.3, 0.3  # shares of whole sentences left out, and of questions joined by "and"


class Unfit(Exception):
    """A problem that cannot be spoiled in the way that is wanted."""


@dataclass(frozen=True)
class Spoiled:
    """A spoiled text. truth: the answer that it has now, None where it has none or two. was, instead: what was taken
    away and what stands there now, where a solver goes by it."""

    text: str
    truth: str | None
    was: str | None = None
    instead: str | None = None


@dataclass(frozen=True)
class Wordings:
    """Texts with places for numbers: {n} and {m} that nothing needs; {wrong} more and {low} less than the answer;
    {answer}, {words} (in words), {before}, {after}, {double}; {unit} and {other} for units."""

    units: tuple[str, ...]
    remarks: tuple[str, ...]
    impossible: tuple[str, ...]
    told: tuple[str, ...]
    two_asked: tuple[str, ...]
    vague: tuple[str, ...]


# The wordings of DEVELOP were seen by whoever wrote the checks; those of JUDGE were written afterwards.
DEVELOP = Wordings(
    units=(
        "Give the answer in {other}.",
        "(All results are to be stated in {other}.)",
        "Answer in {other}.",
        "The unit of the answer is {other}.",
        "(in {other})",
        "How much is that in {other}?",
    ),
    remarks=(
        "All of them wear shirts with the number {n}.",
        "The shop is open from {n} to {m} o'clock.",
        "About {n}% of the people there prefer tea.",
        "The bill was printed on a sheet of {n} by {m} centimeters.",
        "A neighbor bought {n} of the same the week before.",
        "It took place on the {n}th floor, and {m} people were watching.",
        "Usually a third of it would be kept, but not this time, said the {n}-year-old.",
        "They left after {n} minutes.",
        "A cousin, who is {n}, took {m} pictures.",
        "The receipt says {n}.{m} at the top.",
    ),
    impossible=(
        "It is known that the result is larger than {wrong}.",
        "Somebody counted, and in the end it was exactly {wrong}.",
        "Altogether it can be at most {low}.",
        "In the end it has to be an amount of which a half is {wrong}.",
        "By the way, it comes to {wrong}.",
        "A check showed {wrong} as the outcome.",
    ),
    told=(
        "The correct result is {words}.",
        "Hint: it is one more than {before}.",
        "(Expected: {answer}.0)",
        "As everybody guesses, the result lies between {before} and {after}.",
        "A friend says it is {words}, and the friend is right.",
        "Somebody shouts: {answer}!",
        "(Solution: {answer})",
        "The double of the result is {double}.",
    ),
    two_asked=(
        "And how much would it be if the first number were doubled?",
        "Also state how many there would be with one more.",
        "What is it, and what is a third of it?",
        "Determine this amount as well as its double.",
        "Then calculate the same for twice as many.",
        "What fraction of the whole is that?",
        "Give both this value and its square.",
        "Explain, and work out the average too.",
    ),
    vague=("several", "a few", "a certain number of", "many", "a couple of", "an unknown number of", "the usual", "x"),
)
JUDGE = Wordings(
    units=(
        "Please answer in {other}.",
        "Write your answer as a number of {other}.",
        "At the end, convert it to {other}.",
        "We want {other}, not {unit}.",
        "Somebody wants to know it in {other}.",
        "Use {other} for the final answer.",
        "How many {other} is that?",
    ),
    remarks=(
        "The radio had been on for {n} minutes.",
        "A photo of it got {n} likes.",
        "The oldest person there was {n} years old.",
        "They had known each other for {n} years.",
        "The ticket for the museum next door costs ${n}.",
        "Roughly {n} percent of this is forgotten within a week.",
        "The table in the room is {n} inches high and {m} inches wide.",
        "It was {n} degrees outside, and {m} people were waiting.",
        "In another town it would be {n} more.",
    ),
    impossible=(
        "Nobody doubts that the result is {wrong}.",
        "It was checked twice: {wrong} is what comes out.",
        "The result must stay below {low}.",
        "There are at least {wrong} in all.",
        "A witness remembers that it was {wrong}, and the witness is right.",
        "It never exceeds {low}.",
    ),
    told=(
        "The teacher has written {answer} on the board already.",
        "It is {answer}, by the way.",
        "In words, the result is {words}.",
        "You will find {words}.",
        "One less than the result is {before}.",
        "It is more than {before} and less than {after}.",
        "The result is half of {double}.",
    ),
    two_asked=(
        "How many would two of them have?",
        "And what is the average?",
        "Tell me also what is left then.",
        "By what percentage is this more than its half?",
        "What would it be if everything took twice as long?",
        "Find this number, then find its cube.",
        "Round it, and say how much was lost by rounding.",
        "List all the steps' results in order, and give their sum.",
    ),
    vague=("some of", "quite a few", "a handful of", "an amount of", "N", "___", "not so many"),
)


def spoil(
    kind: WordedKind, text: str, answer: str, givens: Sequence[str], dice: random.Random, wordings: Wordings
) -> Spoiled:
    """The text, spoiled. givens: the numbers of the text that its solution uses. Raises Unfit where the kind does not
    suit the problem."""
    spoilers: dict[WordedKind, Callable[[], Spoiled]] = {
        "unit": lambda: _other_unit(text, answer, dice, wordings.units),
        "remark": lambda: _with_remark(text, answer, dice, wordings.remarks),
        "impossible": lambda: _impossible(text, answer, dice, wordings.impossible),
        "told": lambda: _told(text, answer, dice, wordings.told),
        "two_asked": lambda: _two_asked(text, answer, dice, wordings.two_asked),
        "vague": lambda: _vague(text, givens, dice, wordings.vague),
    }
    return spoilers[kind]()


def replaced(text: str, number: str, by: str) -> str:
    """The text with other words in place of a number."""
    return NUMBER.sub(lambda match: by if match[0] == number else match[0], text)


def in_words(number: int) -> str:
    """A number from 0 to 999,999 in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    rest = number % size
    between = " and " if size == 100 else " "
    return f"{in_words(number // size)} {name}" + (between + in_words(rest) if rest else "")


def _other_unit(text: str, answer: str, dice: random.Random, units: Sequence[str]) -> Spoiled:
    *before, question = SENTENCE.split(text)
    unit = next((unit for unit in _UNITS if re.search(rf"\b{unit}\b", question)), None)
    if unit is None:
        raise Unfit
    other, each = _UNITS[unit]
    wording = dice.choice(("", *units))
    spoiled = f"{text} {wording.format(unit=unit, other=other)}" if wording else ""
    return Spoiled(
        spoiled or " ".join([*before, question.replace(unit, other)]), show(Fraction(answer) * each), unit, other
    )


def _with_remark(text: str, answer: str, dice: random.Random, remarks: Sequence[str]) -> Spoiled:
    taken = {*NUMBER.findall(text), answer}
    n, m = sorted(dice.sample([number for number in range(3, 97) if str(number) not in taken], 2))
    sentences = SENTENCE.split(text)
    sentences.insert(dice.randrange(len(sentences)), dice.choice(remarks).format(n=n, m=m))
    return Spoiled(" ".join(sentences), None)


def _impossible(text: str, answer: str, dice: random.Random, statements: Sequence[str]) -> Spoiled:
    value = Fraction(answer)
    wrong = show(value + dice.choice((7, 10, 13, 25)))
    low = show(max(Fraction(1), value - dice.choice((3, 5, 8))))
    if Fraction(low) >= value:
        raise Unfit
    sentences = SENTENCE.split(text)
    sentences.insert(len(sentences) - 1, dice.choice(statements).format(wrong=wrong, low=low))
    return Spoiled(" ".join(sentences), None)


def _told(text: str, answer: str, dice: random.Random, statements: Sequence[str]) -> Spoiled:
    if not answer.isdigit() or not 0 < int(answer) < _MOST_TOLD:
        raise Unfit
    value = int(answer)
    sentences = SENTENCE.split(text)
    said = dice.choice(statements).format(
        answer=value, words=in_words(value), before=value - 1, after=value + 1, double=2 * value
    )
    sentences.insert(len(sentences) - dice.randrange(2), said)
    return Spoiled(" ".join(sentences), answer)


def _two_asked(text: str, answer: str, dice: random.Random, questions: Sequence[str]) -> Spoiled:
    if dice.random() < _ASKED_WITHIN and text.endswith("?"):
        return Spoiled(f"{text[:-1]}, and how many would it be with one more?", answer)
    return Spoiled(f"{text} {dice.choice(questions)}", answer)


def _vague(text: str, givens: Sequence[str], dice: random.Random, words: Sequence[str]) -> Spoiled:
    once = [number for number in givens if NUMBER.findall(text).count(number) == 1]
    if not once:
        raise Unfit
    number = dice.choice(once)
    sentences = SENTENCE.split(text)
    sentence = next(each for each in sentences if number in NUMBER.findall(each))
    if dice.random() < _LEFT_OUT and not sentence.endswith("?") and len(sentences) > 2:
        return Spoiled(" ".join(each for each in sentences if each is not sentence), None, number)
    return Spoiled(replaced(text, number, dice.choice(words)), None, number)
