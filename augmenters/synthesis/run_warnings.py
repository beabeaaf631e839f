"""Warnings from the numbers of a finished synthesis about its settings, each with a remedy."""

from __future__ import annotations

from typing import Any

from curate.errors import RunWarning
from curate.generators.sampling_parameters import refused_parameters_warning

# From here on the generator's format, not the difficulty of problems, decides which ones are kept.
_MOST_WITHOUT_PROBLEM = 0.5
# Of the solved problems; above it, the generator does not suit these rows, or the band does not suit the generator.
_MOST_OUT_OF_BAND = 0.8
_MOST_UNGRADED = 0.2


def run_warnings(record: dict[str, Any]) -> list[RunWarning]:
    """Warnings about the settings, each with a remedy."""
    funnel, outcomes = dict(record["funnel"]), record["outcomes"]
    proposals, solved = funnel["proposals written"], funnel["past checks and gate"]
    warnings = []
    without = outcomes.get("no problem in the proposal", 0) + outcomes.get("proposal cut off", 0)
    if proposals and without > _MOST_WITHOUT_PROBLEM * proposals:
        warnings.append(
            RunWarning(
                "proposals_without_problem",
                f"{without:,} of {proposals:,} proposals hold no problem: the generator does not follow the format.",
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
            warnings.append(RunWarning(code, f"{count:,} of {solved:,} solved problems are {outcome}.", remedy))
    return [*warnings, *_of_grading(record, solved), *_of_ends(record, proposals)]


def _of_grading(record: dict[str, Any], solved: int) -> list[RunWarning]:
    outcomes, warnings = record["outcomes"], []
    if outcomes.get("kept") and "rescored" not in record:
        warnings.append(
            RunWarning(
                "new_rows_not_measured",
                f"It is not known whether the {outcomes['kept']:,} new problems are hard: no proxy was run.",
                "Leave out --scores to have them measured on the proxy like the input.",
            )
        )
    ungraded = outcomes.get("cannot be graded", 0)
    if solved and ungraded > _MOST_UNGRADED * solved:
        warnings.append(
            RunWarning(
                "answers_not_graded",
                f"{ungraded:,} of {solved:,} solved problems have solutions whose answer cannot be compared.",
                "Look at their answers in tables/synthesis.parquet; rows with plain final answers work better.",
            )
        )
    if (warning := refused_parameters_warning(record.get("refused_parameters", {}))) is not None:
        warnings.append(
            RunWarning(
                "sampling_refused", f"{warning[0].upper()}{warning[1:]}.", "Use a server that takes them to set them."
            )
        )
    return warnings


def _of_ends(record: dict[str, Any], proposals: int) -> list[RunWarning]:
    """Why it ended before all requests were made."""
    outcomes, warnings = record["outcomes"], []
    if record.get("given_up"):
        warnings.append(
            RunWarning(
                "yield_hopeless",
                f"Synthesis stopped by itself: {outcomes.get('kept', 0):,} of {proposals:,} proposals were kept.",
                "Read the reasons, use a stronger generator, or continue from here with --least-yield 0.",
            )
        )
    if record.get("budget_reached"):
        warnings.append(
            RunWarning(
                "budget_reached",
                f"The budget of {record['budget']:,} generated tokens ended synthesis with "
                f"{outcomes.get('budget reached', 0):,} proposals open.",
                "A larger budget resumes from here and pays only the difference.",
            )
        )
    return warnings
