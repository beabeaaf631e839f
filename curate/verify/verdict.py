"""The three outcomes of comparing two answers."""

from enum import StrEnum

__all__ = ["Verdict"]


class Verdict(StrEnum):
    """What grading found. `undecided` is neither: nothing was found, understood, or finished in time."""

    right = "right"
    wrong = "wrong"
    undecided = "undecided"
