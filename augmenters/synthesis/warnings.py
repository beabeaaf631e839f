"""What the numbers of a synthesis say about its settings, in plain words with the number and what to do."""

from __future__ import annotations

from typing import Any

from curate.errors import RunWarning

__all__ = ["synthesis_warnings"]

# From here on the generator's own form, not the difficulty of the problems, decides what comes out.
_MOST_WITHOUT_PROBLEM = 0.5
# Of the solved problems; beyond it the generator is the wrong one for these rows, or the band for the generator.
_MOST_OUT_OF_BAND = 0.8
_MOST_UNGRADED = 0.2


def synthesis_warnings(record: dict[str, Any]) -> list[RunWarning]:
    """The warnings that a record of `augmenters.synthesis` deserves; none for a record of anything else."""
    if "funnel" not in record or "outcomes" not in record:
        return []
    funnel, outcomes = dict(record["funnel"]), record["outcomes"]
    written, solved = funnel["proposals written"], funnel["past checks and gate"]
    found = []
    without = outcomes.get("no problem in the proposal", 0) + outcomes.get("proposal cut off", 0)
    if written and without > _MOST_WITHOUT_PROBLEM * written:
        found.append(
            RunWarning(
                "proposals_without_problem",
                f"{without:,} of {written:,} proposals hold no problem: the generator does not follow the format.",
                "Use an instruction-tuned generator (names that end in -Instruct or -it) rather than a base model.",
            )
        )
    for outcome, remedy in (
        ("too easy", "Use a weaker generator, or start from harder rows."),
        ("too hard", "Use a stronger generator, or more samples; some problems may be broken."),
    ):
        count = outcomes.get(outcome, 0)
        if solved and count > _MOST_OUT_OF_BAND * solved:
            code = "problems_" + outcome.replace(" ", "_")
            found.append(RunWarning(code, f"{count:,} of {solved:,} solved problems are {outcome}.", remedy))
    if outcomes.get("kept") and "rescored" not in record:
        found.append(
            RunWarning(
                "new_rows_not_measured",
                f"It is not known whether the {outcomes['kept']:,} new problems are hard: no proxy was run.",
                "Leave out --scores to have them measured on the proxy like the input.",
            )
        )
    ungraded = outcomes.get("cannot be graded", 0)
    if solved and ungraded > _MOST_UNGRADED * solved:
        found.append(
            RunWarning(
                "answers_not_graded",
                f"{ungraded:,} of {solved:,} solved problems have solutions whose answer cannot be compared.",
                "Look at their answers in tables/synthesis.parquet; rows with plain final answers serve better.",
            )
        )
    if record.get("budget_reached"):
        found.append(
            RunWarning(
                "budget_reached",
                f"The budget of {record['budget']:,} generated tokens ended synthesis with "
                f"{outcomes.get('budget reached', 0):,} proposals open.",
                "A larger budget goes on from here and pays only the difference.",
            )
        )
    return found
