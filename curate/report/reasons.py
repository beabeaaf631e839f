"""Plain-language reasons for the loss of rows and new problems."""

from __future__ import annotations

from dataclasses import dataclass

from curate.console.formatting import as_label
from curate.mixture.plan import NOT_HARD


@dataclass(frozen=True)
class Reason:
    """A reason. meaning: one sentence on what it means, or what to do about it."""

    name: str
    meaning: str


# Reasons why chosen rows were not used as parents, by key in the record.
NOT_STARTED = {
    "not in the sample": Reason("Not in the sample", "The recipe starts from a limited number of rows (rows: N)."),
    "marked by the noise guard": Reason(
        "Highest loss",
        "Those of the highest final loss, wrong and rare ones among them; noise_guard sets how many are passed over.",
    ),
    "not reducible": Reason(
        "Not reducible", "A model does not learn them from the other rows: wrong, or of a kind that no row teaches."
    ),
    "no verifiable answer": Reason(
        "No answer to check by",
        "Nothing marks a final answer; name the column that holds it with --columns final_answer=COLUMN.",
    ),
    "solution and final answer disagree": Reason(
        "Solution and answer disagree", "The solution ends in another answer than the column of answers holds."
    ),
    "not one problem with one solution": Reason(
        "Not one problem with one solution", "A conversation of several turns, or a part of the row is empty."
    ),
    "answer without a worked solution": Reason(
        "Answer without a solution", "New problems are written from solutions, and these rows hold the answer alone."
    ),
}
# Reasons why requested problems were not kept, by outcome; keys are prefixes for the many kinds of the gate.
REASONS = {
    "no problem in the proposal": Reason(
        "Reply without a problem",
        "The model did not put a question where it was asked to; instruction-tuned models rarely fail here.",
    ),
    "proposal cut off": Reason(
        "Reply cut off", "It reached the token limit before the problem ended; raise max_tokens of variation_sampling."
    ),
    "request refused": Reason(
        "Request refused",
        "The server did not take the request, most often because the prompt is longer than it allows.",
    ),
    "control characters in the problem": Reason(
        "Control characters in the problem", "Characters that no text should hold; the model's output is damaged."
    ),
    "problem too long": Reason(
        "Problem too long", "Longer than longest_problem allows; most often the model explains instead of asking."
    ),
    "control characters in the solutions": Reason(
        "Control characters in the solutions", "No right solution is plain text, so there is none to train on."
    ),
    "asks nothing": Reason("Asks nothing", "A statement without a question or a task; stronger models rarely do this."),
    "problem too short": Reason("Problem too short", "Too few characters to ask anything."),
    "answer in the problem": Reason(
        "Gives its answer away", "The text holds the final result, so solving it would show nothing."
    ),
    "asks for more than one thing": Reason(
        "Asks for several things", "It is then not known which of them the parent's answer is."
    ),
    "only names and numbers differ from the parent": Reason(
        "Too similar to its parent", "Only names and numbers were changed; least_difference says how much is asked for."
    ),
    "another answer is more frequent": Reason(
        "Another answer is more frequent",
        "More solutions arrive at one other answer than at the parent's, which is then hardly that of the new problem.",
    ),
    "states what no solution uses": Reason(
        "States what nothing uses", "A number that no right solution needs is superfluous, or contradicts another."
    ),
    "solutions use what the problem does not state": Reason(
        "Solutions use what is not stated",
        "Numbers from nowhere or false equations: the answer was reached by luck, or a condition is missing.",
    ),
    "units disagree": Reason("Units disagree", "The problem asks in one unit and its solutions answer in another."),
    "second route disagrees": Reason(
        "The second route disagrees",
        "A program or another prompt, shown the new problem alone, does not arrive at the parent's answer.",
    ),
    "given up": Reason(
        "Stopped early",
        "Too few proposals were kept; rerun with --least-yield 0 to resume.",
    ),
    "parent solved too often": Reason(
        "The generator solves the row too often", "parents: [LOW, HIGH] says how often it may, as in SvS."
    ),
    "parent solved too seldom": Reason(
        "The generator solves the row too seldom", "parents: [LOW, HIGH] says how often it must, as in SvS."
    ),
    "no right solution of the parent": Reason(
        "No right solution of the row", "context: sampled writes from the generator's own solutions, and none is right."
    ),
    "the strategy can show nothing of the solution": Reason(
        "No operations in the solution", "skeleton and back_translation need equations between numbers to show."
    ),
    "same as another variant of its parent": Reason(
        "Written twice", "The same words as another new problem from that row; a higher temperature gives more variety."
    ),
    "near-duplicate of source": Reason(
        "Too similar to a row of the input", "It would add a copy of what is there already, not a new problem."
    ),
    "near-duplicate of new": Reason(
        "Too similar to another new problem", "Only the first of two similar problems is kept."
    ),
    "near-duplicate": Reason("Too similar to another problem", "Only the first of two similar problems is kept."),
    "evaluation": Reason(
        "Found in an evaluation set", "Training on it would make the evaluation worthless, so it never gets in."
    ),
    "outside the band": Reason(
        "Outside the band", "More sampled solutions reach the original answer than the band allows, or fewer."
    ),
    "too easy": Reason("Too easy", "More sampled solutions reach the original answer than the band allows."),
    "too hard": Reason(
        "Too hard, or broken",
        "Too few sampled solutions reach the original answer: out of the model's reach, or it has another answer.",
    ),
    "cannot be graded": Reason(
        "Could not be graded", "Too many solutions whose answer could not be compared with the original one."
    ),
    "budget reached": Reason(
        "Not finished", "The budget of generated tokens was spent; rerun with a larger one to resume."
    ),
    NOT_HARD: Reason(
        "Not hard when measured",
        "The proxy learns it early, and the recipe keeps only new problems that are hard again.",
    ),
}


def kind_of(key: str, known: dict[str, Reason]) -> Reason:
    """The reason of a key: its own, else that of its longest known prefix, else one made from the key."""
    prefix = max((prefix_known for prefix_known in known if key.startswith(prefix_known)), key=len, default=None)
    if prefix is None:
        label = as_label(key)
        return Reason(label[:1].upper() + label[1:], "")
    reason = known[prefix]
    tail = as_label(key[len(prefix) :]) if prefix in ("evaluation", "near-duplicate") else ""
    return Reason(f"{reason.name} ({tail.strip()})", reason.meaning) if tail.strip() else reason


def outcome_of(text: str) -> tuple[str, str]:
    """Split a recorded reason into (outcome, detail); a detail follows in parentheses or after a colon."""
    outcome, mark, detail = min((text.partition(mark) for mark in (" (", ": ")), key=lambda parts: len(parts[0]))
    return outcome, detail.removesuffix(")") if mark == " (" else detail
