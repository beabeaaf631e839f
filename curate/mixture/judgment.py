"""How the rule that turns held-out curves into a verdict was judged, on settings that it was not chosen on.

The record is judgment.json beside this module; `python -m benchmarks.when.forecast --judge` writes it. It alone
decides whether a verdict is shown.
"""

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
    """The rule on one outcome.

    right: share of units where it said what was so. yes: how often it said yes; precision: share of those that were so,
    None where it never said yes. gain: of following it over always taking the data as it is; of the loss its relative
    fall, of answers the rise of their share.
    """

    right: Interval
    yes: int
    precision: Interval | None
    gain: Interval

    @property
    def beats(self) -> bool:
        """Whether following it is better than always taking the data as it is, by the lower bound."""
        return self.gain[1] > 0


@dataclass(frozen=True)
class Judgment:
    """clock, threshold, most_wrong: the rule, see `curate.mixture.verdicts`. units: settings at a budget; settings: how
    many of these there are, by family. times: how often hard rows were shown where it was judged.
    cautions: what was measured in the settings that cautions speak of, see `curate.mixture.forecast_words.cautions`.
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
        """Outcomes of which a verdict is shown."""
        return tuple(name for name, each in self.outcomes.items() if each.beats)


def judgment_from(record: Mapping[str, Any]) -> Judgment:
    """Of what judgment.json holds."""

    def interval(value: Any) -> Interval:
        figure, low, high = (float(each) for each in value)
        return figure, low, high

    outcomes: dict[Outcome, Judged] = {}
    names: tuple[Outcome, ...] = ("loss", "answers")
    for name in names:
        one = record["outcomes"][name]
        precision = None if one["precision"] is None else interval(one["precision"])
        outcomes[name] = Judged(interval(one["right"]), int(one["yes"]), precision, interval(one["gain"]))
    fields: dict[str, Any] = {name: float(record["rule"][name]) for name in ("clock", "threshold", "most_wrong")}
    fields |= {name: record[name] for name in ("times", "units", "settings", "cautions")}
    return Judgment(outcomes=outcomes, **fields)


@cache
def judgment() -> Judgment:
    """The committed one."""
    text = (resources.files("curate.mixture") / "judgment.json").read_text(encoding="utf-8")
    return judgment_from(json.loads(text))
