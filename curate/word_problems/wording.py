"""Text of a problem: names, things, filler sentences, and the verbosity of a worked solution."""

from __future__ import annotations

from curate.word_problems.solution import Draw, Problem, Step, show

NAMES = (
    "Ada", "Amir", "Anna", "Ben", "Bea", "Carla", "Chen", "Dara", "David", "Elif", "Emma", "Felix",
    "Fatima", "George", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jada", "Jonas", "Kai", "Kira", "Lena",
    "Liam", "Lucia", "Malik", "Mara", "Nadia", "Noah", "Olga", "Omar", "Paula", "Pedro", "Quinn", "Rosa",
    "Ruben", "Sara", "Samir", "Tara", "Tom", "Uma", "Vera", "Victor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip

ITEMS = (
    "pens", "books", "mugs", "candles", "plates", "scarves", "lamps", "kites", "cushions", "puzzles",
    "baskets", "hats", "notebooks", "torches", "vases", "blankets", "brushes", "bowls", "mirrors",
    "clocks",
)  # fmt: skip

# No digits here: the numbers of a question decide its split (see table.py), and filler must not change that.
_FILLERS = (
    "It is a sunny morning.",
    "It has been raining all day.",
    "Everybody has been looking forward to this for weeks.",
    "The neighbours came along to watch.",
    "There was music in the background.",
    "It took a while to find a pencil.",
    "Nobody had expected it to be this busy.",
    "A friend had asked about it the evening before.",
    "The weather report had promised snow.",
    "Somebody had left the window open.",
    "The dog slept through all of it.",
    "Everything was written down on the back of an envelope.",
    "It was the first day of the holidays.",
    "A little brother wanted to help, too.",
    "There was still some cake left over from the party.",
    "The bus was late again that day.",
    "All of this happened before lunch.",
    "The story was in the local newspaper.",
    "Nothing like it had been tried before in the village.",
    "The teacher thought that this would make a good puzzle.",
    "A cup of tea was getting cold on the table.",
    "It was almost time to go home.",
    "The plan was made at the kitchen table.",
    "They had talked about it on the phone.",
)

_VERBS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "take the percentage", "+-": "calculate"}

# Shares of four ways to write a solution: equations only, label and equation, sentence, explanation.
_STYLES = {
    1: (0.05, 0.15, 0.35, 0.45),
    2: (0.15, 0.25, 0.35, 0.25),
    3: (0.40, 0.35, 0.20, 0.05),
    4: (0.60, 0.30, 0.08, 0.02),
}
# Always in this order, so that a model soon memorizes them: they make a solution long, not hard.
_REMARKS = (
    "Let us read the question once more before we begin.",
    "We keep only what matters for the answer.",
    "It helps to write every step on a line of its own.",
    "We work this out slowly, one step at a time.",
    "There is no need to hurry, and no need to guess.",
    "A short note on the side keeps the numbers in order.",
    "Here are the steps.",
)
_MOST_REMARKS = {1: 7, 2: 6, 3: 5, 4: 3}
_MOST_FILLERS = {1: 5, 2: 4, 3: 3, 4: 2}
_DISTRACTOR_SHARE = {1: 0.0, 2: 0.0, 3: 0.5, 4: 0.75}


def question_text(draw: Draw, level: int, problem: Problem) -> str:
    """Facts in order, with filler (more at low levels) and the distractor (levels 3 and 4) in between."""
    sentences = list(problem.facts)
    if problem.distractor and draw.chance(_DISTRACTOR_SHARE[level]):
        sentences.insert(draw.integer(1, len(sentences)), problem.distractor)
    for filler in draw.distinct(_FILLERS, draw.integer(0, _MOST_FILLERS[level])):
        sentences.insert(draw.integer(0, len(sentences)), filler)
    return " ".join([*sentences, problem.question])


def answer_text(draw: Draw, level: int, steps: list[Step]) -> str:
    """The worked solution, one step per line, with a last line `#### <final>`."""
    style = draw.weighted(_STYLES[level])
    final = show(steps[-1].value)
    count = draw.integer(0, _MOST_REMARKS[level])
    remarks = [remark for remark, is_kept in zip(_REMARKS, draw.subset(len(_REMARKS), count), strict=True) if is_kept]
    if style == 0:
        lines = [f"{step.left} = {show(step.value)}" for step in steps]
    elif style == 1:
        lines = [f"{step.goal}: {step.left} = {show(step.value)}" for step in steps]
    elif style == 2:
        lines = [f"The {step.goal} is {step.left} = {show(step.value)} {step.unit}." for step in steps]
    else:
        lines = []
        for position, step in enumerate(steps):
            opening = "First" if position == 0 else "Then"
            lines.append(
                f"{opening} we {_VERBS[step.operator]} to find the {step.goal}: "
                f"{step.left} = {show(step.value)} {step.unit}."
            )
        lines.append(f"So the answer that we were asked for is {final} {steps[-1].unit}.")
    lines = [*remarks, *lines]
    return "\n".join([*lines, f"#### {final}"])
