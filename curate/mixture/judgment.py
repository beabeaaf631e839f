"""Measured reliability of the rule for verdicts, on settings that were not used to choose it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Outcome = Literal["loss", "answers"]
Interval = tuple[float, float, float]  # the figure, and its 95 % interval over settings


@dataclass(frozen=True)
class Judged:
    """Reliability of the rule for one outcome.

    right: accuracy over units. yes: number of positive verdicts. precision: share of positive verdicts that were right,
    None if there were none. gain: of following the rule over always using the original data: relative fall of the loss,
    or rise of the share of right answers.
    """

    right: Interval
    yes: int
    precision: Interval | None
    gain: Interval

    @property
    def beats(self) -> bool:
        """Whether following it is better than always using the original data, by the lower bound."""
        return self.gain[1] > 0


@dataclass(frozen=True)
class Judgment:
    """The rule for verdicts and its reliability.

    The record is judgment.json in this package, written by `python -m benchmarks.when.forecast --judge`. It alone
    decides whether verdicts are shown.

    clock, threshold, most_wrong: parameters of the rule, see `curate.mixture.verdicts`. units: number of (setting,
    budget) pairs that it was judged on. settings: number of settings by family. times: occurrences of hard rows there.
    cautions: measured results that cautions cite, see `curate.mixture.forecast_words.cautions`.
    """

    clock: float
    threshold: float
    most_wrong: float
    times: int
    units: int
    settings: Mapping[str, int]
    outcomes: Mapping[Outcome, Judged]
    cautions: Mapping[str, Any]

    @property
    def shown(self) -> tuple[Outcome, ...]:
        """Outcomes for which a verdict is shown."""
        return tuple(name for name, judged in self.outcomes.items() if judged.beats)


def judgment_from(record: Mapping[str, Any]) -> Judgment:
    """The judgment from the content of judgment.json."""

    def interval(value: Any) -> Interval:
        figure, low, high = (float(number) for number in value)
        return figure, low, high

    outcomes: dict[Outcome, Judged] = {}
    names: tuple[Outcome, ...] = ("loss", "answers")
    for name in names:
        outcome = record["outcomes"][name]
        precision = None if outcome["precision"] is None else interval(outcome["precision"])
        outcomes[name] = Judged(interval(outcome["right"]), int(outcome["yes"]), precision, interval(outcome["gain"]))
    fields: dict[str, Any] = {name: float(record["rule"][name]) for name in ("clock", "threshold", "most_wrong")}
    fields |= {name: record[name] for name in ("times", "units", "settings", "cautions")}
    return Judgment(outcomes=outcomes, **fields)


@cache
def judgment() -> Judgment:
    """The judgment in the committed judgment.json."""
    text = (resources.files("curate.mixture") / "judgment.json").read_text(encoding="utf-8")
    return judgment_from(json.loads(text))
