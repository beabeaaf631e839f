"""Checks of new problems, one per module; `registry` lists them with the reasons that they record."""

# A check never guesses: if it cannot parse what it judges, the problem passes.
