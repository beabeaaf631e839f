"""Sentences and formatted numbers that state the result of a comparison."""

from __future__ import annotations

from typing import Any

from curate.comparison.runs import MAIN_ARM, budget_name
from curate.console.formatting import MISSING, count, one_line, real

UNITS = {"accuracy": "points", "nll": "nats per token"}
_NOUNS = {"accuracy": "accuracy", "nll": "loss on the reference answers"}
_FEWEST_SEEDS = 3  # with fewer seeds the detectable difference is too uncertain
_LEVEL = 0.05  # for p after correction, alongside 95 % intervals


def value(metric: str, number: Any) -> str:
    """Format a mean: 41.2 %, 1.234."""
    if real(number) is None:
        return MISSING
    return f"{100 * number:.1f}\u00a0%" if metric == "accuracy" else f"{number:.4f}"


def signed(metric: str, number: Any) -> str:
    """Format a difference without its unit: +2.4 (points), −0.0310 (nats per token)."""
    if real(number) is None:
        return MISSING
    text = f"{100 * number:+.1f}" if metric == "accuracy" else f"{number:+.4f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # a number that rounds to zero has no sign
    return text.replace("-", "−")


def _amount(metric: str, number: Any) -> str:
    """Format the size of a difference, with its unit."""
    return MISSING if real(number) is None else f"{signed(metric, abs(number)).lstrip('+')} {UNITS[metric]}"


def interval(metric: str, row: dict[str, Any]) -> str:
    return f"{signed(metric, row['low'])} to {signed(metric, row['high'])}"


def detectable(metric: str, row: dict[str, Any]) -> str:
    """Format the detectable difference: 3.1 (points); none if it exceeds the possible range, – if unknown."""
    if row["detectable"] is None:
        return MISSING if row["seeds"] == 1 else "none"
    return signed(metric, row["detectable"]).lstrip("+")


def relative(number: Any) -> str:
    """Format a relative difference: +6.1 %."""
    return MISSING if real(number) is None else f"{signed('accuracy', number)}\u00a0%"


def headline(record: dict[str, Any]) -> tuple[str, list[str]]:
    """The title, and a sentence per arm and budget on the primary outcome: full for the main arm, short for others."""
    rows = [difference for difference in record["differences"] if difference["primary"]]
    ordered = sorted(rows, key=lambda difference: difference["arm"] != MAIN_ARM)
    metric = record["primary"]["metric"]
    controls = [against(row) for row in record["against_controls"] if row["metric"] == metric]
    lead = " ".join([_sentence(ordered[0], len(rows)), *_lengths(record, ordered)])
    return _title(ordered[0], len(rows)), [lead, *controls, *map(_brief, ordered[1:])]


def _lengths(record: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """A sentence if arms without a budget differ in steps, so that the data are not the only difference."""
    steps = {arm["arm"]: arm["steps"] for arm in record["arms"] if arm["budget"] is None}
    baseline = steps.get(record["baseline"])
    unlike = [
        f"{one_line(row['arm'], 40)} was trained {steps[row['arm']]:,.4g} steps"
        for row in rows
        if row["budget"] is None and steps.get(row["arm"]) not in (None, baseline)
    ]
    if baseline is None or not unlike:
        return []
    return [
        f"But {', '.join(unlike)} and {one_line(record['baseline'], 40)} {baseline:,.4g}: the effect of more "
        "steps and that of other data cannot be separated; fine-tune with --budget steps and the same --steps."
    ]


def _title(row: dict[str, Any], family: int) -> str:
    arm, baseline = one_line(row["arm"], 40), one_line(row["baseline"], 40)
    if row["verdict"] == "one seed":
        claim = f"{signed(row['metric'], row['difference'])} {UNITS[row['metric']]}"
        return f"One seed is not a verdict: {arm} against {baseline}, {claim}"
    if row["verdict"] == "no evidence":
        return f"No evidence that {arm} differs from {baseline}"
    claim = f"{arm} {_verb(row)} {baseline} by {_amount(row['metric'], row['difference'])}"
    return f"{claim}, but among {family} comparisons that may be chance" if _chance(row, family) else claim


def _chance(row: dict[str, Any], family: int) -> bool:
    """Whether the difference is significant alone, but not after correction for the number of primary outcomes."""
    return family > 1 and bool(row["p_holm"] >= _LEVEL)


def _verb(row: dict[str, Any]) -> str:
    return "beats" if row["verdict"] == "better" else "is worse than"


def _sentence(row: dict[str, Any], family: int) -> str:
    """One difference with its design, means, interval and p. family: number of primary outcomes."""
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
    if row["verdict"] == "one seed":
        return (
            f"{arm} against {baseline} in {_NOUNS[metric]} ({design}): {numbers}. The variance between seeds is "
            f"unknown; run {_FEWEST_SEEDS} seeds or more."
        )
    if row["verdict"] == "no evidence":
        return f"There is no evidence that {arm} changes the {_NOUNS[metric]} ({design}): {numbers}. {_power(row)}"
    text = f"{arm} {_verb(row)} {baseline} in {_NOUNS[metric]} ({design}): {numbers}."
    if family > 1:
        text += f" For all {family} such comparisons together (Holm), p = {row['p_holm']:.2g}"
        text += ": among so many, one may look like this by chance." if _chance(row, family) else "."
    return text


def _power(row: dict[str, Any]) -> str:
    if row["detectable"] is None:
        return "This design could not have detected any difference reliably."
    if row["seeds"] < _FEWEST_SEEDS:
        few = f"With {row['seeds']} seeds the detectable difference is too uncertain to state"
        return f"{few}; run {_FEWEST_SEEDS} or more."
    return f"With 80\u00a0% power this design detects a difference of {_amount(row['metric'], row['detectable'])}."


def against(row: dict[str, Any]) -> str:
    """One line on the difference to an arm other than the baseline."""
    return _brief({**row, "arm": f"{row['arm']} against {row['baseline']}"})


def _brief(row: dict[str, Any]) -> str:
    """One line on a difference."""
    metric = row["metric"]
    numbers = f"{signed(metric, row['difference'])} {UNITS[metric]} ({interval(metric, row)})"
    return f"{one_line(row['arm'], 40)}, {budget_name(row['budget'])}: {row['verdict']}, {numbers}"
