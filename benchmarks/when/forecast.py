"""Choose and judge rules that forecast whether showing the hard rows twice helps."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.when.outcomes import by_setting, change
from benchmarks.when.records import read_blocks
from curate.difficulty.held_out_curves import predicted_change
from curate.mixture.judgment import __file__ as judgment_module
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file

_DETAILS = """\
    python -m benchmarks.when.forecast --choose     # on the settings of choice; writes frozen.json
    python -m benchmarks.when.forecast --judge  
        # on all others, with what is frozen

A unit is a setting at a budget. What a rule may look at is what the proxy found, never an arm: the held-out loss curves
of the hard and the easy cluster under a proxy trained on three quarters of the rows, the hard share, and what the rule
of reducible rows says of wrong rows where it was asked. The exposures of the clusters at equal steps predict

    h [L_h(c T m_h) - L_h(c T)] + (1 - h) [L_e(c T m_e) - L_e(c T)], relative to h L_h(c T) + (1 - h) L_e(c T)

with m_h = 2 / (1 + h), m_e = 1 / (1 + h); the clock c allows for a proxy that learns slower than the target. What the
product says of copies is decided by what `--judge` writes for it (`curate.mixture.judgment`).
"""

ARM, FACTOR = "hard x2", 2
CHOICE_FAMILY, HALVED_FAMILY = "symbols", "text"
HELPS = {"nats": 0.03, "exact": 0.01}  # relative fall of nats, rise of exact answers, both on the training mixture
FROZEN = Path(__file__).with_name("frozen.json")
JUDGMENT = Path(judgment_module).with_name("judgment.json")
# What cautions of the product speak of: settings of the symbols in which nothing is known beforehand, and an arm.
CAUTIONS = {
    "large": "knows-nothing-share-0.4-noise-0-proxy-small",
    "small": "knows-nothing-share-0.1-noise-0-proxy-small",
    "wrong": "knows-nothing-share-0.1-noise-0.05-proxy-small",
}
CAUTION_ARM, CAUTION_TIMES = "hard x3", 3
CLOCKS = (1.0, 1.5, 2.0, 3.0)
THRESHOLDS = (0.0, 0.01, 0.03, 0.05, 0.1)
MOST_WRONG = (0.1, 0.2, 0.3, 1.0)
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Unit:
    """A setting at a budget, means over its seeds.

    foretold: clock -> relative change of nats by exposures. wrong: estimated share of wrong rows among the hard ones,
    all of them where the rule of reducible rows cannot tell; None = not asked. nats: relative change observed (of means
    of logarithms); exact: difference of exact answers.
    """

    family: str
    name: str
    budget: float
    proxy: str
    hard_share: float
    wrong: float | None
    foretold: Mapping[float, float]
    nats: float
    exact: float


@dataclass(frozen=True)
class Rule:
    """Says yes where exposures at `clock` foretell a fall of more than `threshold`, and at most `most_wrong` of the
    hard rows are estimated to be wrong."""

    clock: float
    threshold: float
    most_wrong: float

    def __call__(self, unit: Unit) -> bool:
        trusted = unit.wrong is None or unit.wrong <= self.most_wrong
        return trusted and unit.foretold[self.clock] < -self.threshold


@dataclass(frozen=True)
class ShareRule:
    """Says yes where at most `most` of the rows are hard: the baseline that knows the hard share alone."""

    most: float

    def __call__(self, unit: Unit) -> bool:
        return unit.hard_share <= self.most


def units_of(blocks: Sequence[dict[str, Any]]) -> list[Unit]:
    """The units whose baseline and ARM are there for a seed or more; a setting without a hard row has none."""
    units = []
    for (family, name), seeds in by_setting(blocks).items():
        setting = seeds[0]["setting"]
        for budget in setting["budgets"]:
            nats, exact = (change(seeds, ARM, budget, f"{of} mixture") for of in ("nats", "exact"))
            with_curves = [each for each in seeds if each["curves"]["hard"] and each["curves"]["easy"]]
            if nats is None or exact is None or nats.relative is None or not with_curves:
                continue
            wrong_shares = [each["reducible"]["wrong_share"] for each in seeds if each.get("reducible")]
            wrong = [1.0 if share is None else share for share in wrong_shares]
            steps = max(1, round(budget * setting["unit"]))
            foretold = {
                clock: float(np.mean([_foretold(each, steps * clock) for each in with_curves])) for clock in CLOCKS
            }
            units.append(
                Unit(
                    family,
                    name,
                    budget,
                    setting["proxy"],
                    float(np.mean([each["hard_share"] for each in seeds])),
                    float(np.mean(wrong)) if wrong else None,
                    foretold,
                    nats.relative,
                    exact.absolute,
                )
            )
    return units


def _foretold(block: Mapping[str, Any], steps: float) -> float:
    curves = block["curves"]
    return predicted_change(curves["steps"], curves["hard"], curves["easy"], block["hard_share"], steps, FACTOR)


def of_choice(unit: Unit) -> bool:
    """Whether rules may be chosen on the unit: one family whole, and of another the settings of even checksum."""
    return unit.family == CHOICE_FAMILY or (unit.family == HALVED_FAMILY and zlib.crc32(unit.name.encode()) % 2 == 0)


def choose(units: Sequence[Unit]) -> dict[str, Any]:
    """The rule, and the share rule, by which nats fall most when they are followed; of equals the stricter."""

    def best(rules: Sequence[Any]) -> Any:
        # Rules stand in order of strictness, the strictest first.
        return min(rules, key=lambda rule: (round(_value(units, rule, "nats"), 4), sum(map(rule, units))))

    rules = [Rule(*each) for each in itertools.product(CLOCKS, THRESHOLDS[::-1], MOST_WRONG)]
    return {"rule": asdict(best(rules)), "share_rule": asdict(best([ShareRule(most) for most in SHARES]))}


def judged(units: Sequence[Unit], frozen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each outcome and rule: agreement, and the value of following it, with 95 % intervals over settings."""
    rules: dict[str, Callable[[Unit], bool]] = {
        "frozen rule": Rule(**frozen["rule"]),
        "hard share alone": ShareRule(**frozen["share_rule"]),
        "always no": lambda unit: False,
        "always yes": lambda unit: True,
    }
    rows = []
    for outcome in HELPS:
        for name, rule in rules.items():
            row: dict[str, Any] = {"outcome": outcome, "rule": name, "units": len(units)}
            for figure, of in _FIGURES.items():
                row[figure] = _with_interval(units, lambda us, of=of, rule=rule, outcome=outcome: of(us, rule, outcome))
            rows.append(row)
    return rows


def judgment_of(
    units: Sequence[Unit],
    frozen: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    blocks: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What the product has to know of it: the rule, and how it did on each outcome. rows: of `judged`."""
    rule = Rule(**frozen["rule"])
    settings: dict[str, set[str]] = {}
    for unit in units:
        settings.setdefault(unit.family, set()).add(unit.name)
    outcomes = {}
    for outcome, name, sign in (("nats", "loss", -1), ("exact", "answers", 1)):
        (row,) = (each for each in rows if each["outcome"] == outcome and each["rule"] == "frozen rule")
        value = row["value"]
        outcomes[name] = {
            "right": row["right"],
            "yes": sum(map(rule, units)),
            "precision": None if row["precision"][0] is None else row["precision"],
            "gain": [x or 0.0 for x in (sign * value[0], *sorted(sign * x for x in value[1:]))],
        }
    return {
        "made_by": "python -m benchmarks.when.forecast --judge",
        "rule": frozen["rule"],
        "times": FACTOR,
        "units": len(units),
        "settings": {family: len(names) for family, names in sorted(settings.items())},
        "outcomes": outcomes,
        "cautions": cautions_of(blocks),
    }


def cautions_of(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each setting of CAUTIONS: hard share, seeds, and by budget the changes of nats and of exact answers."""
    cautions: dict[str, Any] = {"arm": CAUTION_ARM, "times": CAUTION_TIMES}
    by_name = {name: seeds for (family, name), seeds in by_setting(blocks).items() if family == CHOICE_FAMILY}
    for label, name in CAUTIONS.items():
        seeds = by_name.get(name, [])
        changes = {}
        for budget in seeds[0]["setting"]["budgets"] if seeds else ():
            nats, exact = (change(seeds, CAUTION_ARM, budget, f"{of} mixture") for of in ("nats", "exact"))
            if nats is not None and exact is not None and nats.relative is not None:
                changes[f"{budget:g}"] = {"nats": round(nats.relative, 4), "exact": round(exact.absolute, 4)}
        if changes:
            share = float(np.mean([each["hard_share"] for each in seeds]))
            noise = seeds[0]["setting"]["noise"]
            cautions[label] = {"hard_share": round(share, 4), "wrong": noise, "seeds": len(seeds), "changes": changes}
    return cautions


def helps(unit: Unit, outcome: str) -> bool:
    return unit.nats <= -HELPS["nats"] if outcome == "nats" else unit.exact >= HELPS["exact"]


def _value(units: Sequence[Unit], rule: Callable[[Unit], bool], outcome: str) -> float:
    """Mean change where the rule is followed: of nats as a ratio, of exact answers as a difference."""
    if outcome == "nats":
        return math.exp(np.mean([math.log1p(unit.nats) if rule(unit) else 0.0 for unit in units])) - 1
    return float(np.mean([unit.exact if rule(unit) else 0.0 for unit in units]))


def _right(units: Sequence[Unit], rule: Callable[[Unit], bool], outcome: str) -> float:
    return float(np.mean([rule(unit) == helps(unit, outcome) for unit in units]))


def _sign(units: Sequence[Unit], rule: Callable[[Unit], bool], outcome: str) -> float:
    """Share of units where yes stands for any gain at all and no for none."""
    better = [unit.nats < 0 if outcome == "nats" else unit.exact > 0 for unit in units]
    return float(np.mean([rule(unit) == gain for unit, gain in zip(units, better, strict=True)]))


def _precision(units: Sequence[Unit], rule: Callable[[Unit], bool], outcome: str) -> float:
    yes_outcomes = [helps(unit, outcome) for unit in units if rule(unit)]
    return float(np.mean(yes_outcomes)) if yes_outcomes else math.nan


def _recall(units: Sequence[Unit], rule: Callable[[Unit], bool], outcome: str) -> float:
    true = [rule(unit) for unit in units if helps(unit, outcome)]
    return float(np.mean(true)) if true else math.nan


_FIGURES = {"right": _right, "sign": _sign, "precision": _precision, "recall": _recall, "value": _value}


def _with_interval(units: Sequence[Unit], figure: Callable[[Sequence[Unit]], float]) -> list[float | None]:
    """The figure, and its interval where settings are drawn anew with all their budgets; None where it has no value."""
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.family, unit.name), []).append(unit)
    members = list(groups.values())
    generator = np.random.default_rng(derive_seed(0, "when", "bootstrap"))
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = generator.integers(0, len(members), len(members))
        drawn.append(figure([unit for place in chosen for unit in members[place]]))
    known = [each for each in drawn if not math.isnan(each)]
    bounds = np.quantile(known, [0.025, 0.975]).tolist() if known else [math.nan, math.nan]
    return [None if math.isnan(each) else round(each, 4) for each in (figure(units), *bounds)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--choose", action="store_true")
    task.add_argument("--judge", action="store_true")
    parser.add_argument("--records", type=Path, default=Path("benchmarks/results/when"))
    options = parser.parse_args(arguments)
    blocks = read_blocks(options.records)
    if options.choose:
        units = [unit for unit in units_of(blocks) if of_choice(unit)]
        chosen = {**choose(units), "chosen_on_units": len(units)}
        publish_file(FROZEN, json.dumps(chosen, indent=1) + "\n")
        print(json.dumps(chosen, indent=1))
        return 0
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    units = [unit for unit in units_of(blocks) if not of_choice(unit)]
    if not units:
        print("no setting to judge on has both arms yet", file=sys.stderr)
        return 3
    rows = judged(units, frozen)
    publish_file(options.records / "forecast.json", json.dumps({"frozen": frozen, "rows": rows}, indent=1) + "\n")
    publish_file(JUDGMENT, json.dumps(judgment_of(units, frozen, rows, blocks), indent=1) + "\n")
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
