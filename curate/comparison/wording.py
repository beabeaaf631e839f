"""Differences in plain words and with their units: what a person reads first."""

from __future__ import annotations

from typing import Any

from curate.comparison.runs import budget_name
from curate.display import MISSING, count, one_line, real

__all__ = ["UNITS", "amount", "brief", "headline", "interval", "relative", "sentence", "signed", "value"]

UNITS = {"accuracy": "points", "nll": "nats per token"}
_NOUNS = {"accuracy": "accuracy", "nll": "loss on the reference answers"}
_MAIN_ARM = "hard"


def value(metric: str, number: Any) -> str:
    """A mean: 41.2 %, 1.234."""
    if real(number) is None:
        return MISSING
    return f"{100 * number:.1f}\u00a0%" if metric == "accuracy" else f"{number:.4f}"


def signed(metric: str, number: Any) -> str:
    """A difference without its unit: +2.4 (points), −0.0310 (nats per token)."""
    if real(number) is None:
        return MISSING
    text = f"{100 * number:+.1f}" if metric == "accuracy" else f"{number:+.4f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # nothing that shows has no sign
    return text.replace("-", "−")


def amount(metric: str, number: Any) -> str:
    """The size of a difference, with its unit."""
    return MISSING if real(number) is None else f"{signed(metric, abs(number)).lstrip('+')} {UNITS[metric]}"


def interval(metric: str, row: dict[str, Any]) -> str:
    return f"{signed(metric, row['low'])} to {signed(metric, row['high'])}"


def relative(number: Any) -> str:
    """A relative difference: +6.1 %."""
    return MISSING if real(number) is None else f"{signed('accuracy', number)}\u00a0%"


def headline(record: dict[str, Any]) -> tuple[str, list[str]]:
    """The title, and a sentence per arm and budget on the primary outcome: of the main arm in full, of others short."""
    rows = [each for each in record["differences"] if each["primary"]]
    ordered = sorted(rows, key=lambda each: each["arm"] != _MAIN_ARM)
    return _title(ordered[0]), [sentence(ordered[0], len(rows)), *map(brief, ordered[1:])]


def _title(row: dict[str, Any]) -> str:
    arm, baseline = one_line(row["arm"], 40), one_line(row["baseline"], 40)
    if row["verdict"] == "no evidence":
        return f"No evidence that {arm} differs from {baseline}"
    return f"{arm} {_verb(row)} {baseline} by {amount(row['metric'], row['difference'])}"


def _verb(row: dict[str, Any]) -> str:
    return "beats" if row["verdict"] == "better" else "is worse than"


def sentence(row: dict[str, Any], family: int) -> str:
    """One difference with everything needed to judge it. family: how many outcomes it was picked from."""
    metric = row["metric"]
    arm, baseline = one_line(row["arm"], 40), one_line(row["baseline"], 40)
    seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
    design = f"{budget_name(row['budget'])}, {count(row['examples'])} examples, {seeds}"
    numbers = (
        f"{value(metric, row['arm_mean'])} against {value(metric, row['baseline_mean'])}, a difference of "
        f"{signed(metric, row['difference'])} {UNITS[metric]} (95\u00a0% interval {interval(metric, row)})"
    )
    if row["relative_low"] is not None:
        between = f"{relative(row['relative_low'])} to {relative(row['relative_high'])}"
        numbers += f", relative {relative(row['relative'])} ({between})"
    if row["verdict"] == "no evidence":
        return (
            f"There is no evidence that {arm} changes the {_NOUNS[metric]} ({design}): {numbers}. Four times in five "
            f"this design would have found a difference of {amount(metric, row['detectable'])}."
        )
    text = f"{arm} {_verb(row)} {baseline} in {_NOUNS[metric]} ({design}): {numbers}."
    if family > 1:
        text += f" For all {family} such comparisons together (Holm), p = {row['p_holm']:.2g}."
    return text


def brief(row: dict[str, Any]) -> str:
    """One difference in a line."""
    metric = row["metric"]
    numbers = f"{signed(metric, row['difference'])} {UNITS[metric]} ({interval(metric, row)})"
    return f"{one_line(row['arm'], 40)}, {budget_name(row['budget'])}: {row['verdict']}, {numbers}"
