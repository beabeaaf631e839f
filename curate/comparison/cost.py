"""Cost of each arm (steps, tokens, seconds, FLOPs, curation), and settings in which runs differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.comparison.runs import ArmRun, Groups, budget_name
from curate.console.formatting import one_line

_MEANS = ("steps", "epochs", "rows_seen", "tokens", "completion_tokens", "seconds", "flops", "gradients_per_step")
_CURATION = ("seconds", "tokens", "proxy_parameters", "requests", "generated_tokens")
_MAY_DIFFER = {
    "model",
    "revision",
    "seed",
    "steps",
    "horizon",
    "save_every",
    "log_every",
}  # models: compared by weights
_OF_ROW = ("arm", "budget", "set", "metric")
_FLOPS_PER_PARAMETER = 6  # and token: forward and backward
_SHOWN_KEYS = 4


def arm_facts(groups: Groups, baseline: str, metric: str, differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per budget and arm: means over its runs; curation once, with what it adds to one run.

    flops_total, seconds_total: of one run and the curation, whose tokens are all counted as trained on (scoring them
    costs a third of that). gain_per_1e15_flops and gain_per_hour: of the pooled `metric`; positive = better.
    """
    rows = []
    for budget, members in groups.items():
        facts = {arm: _facts(list(runs.values())) for arm, runs in members.items()}
        reference = facts[baseline]
        for arm, row in facts.items():
            identity = (arm, budget, "pooled", metric)
            pooled = [difference for difference in differences if tuple(difference[key] for key in _OF_ROW) == identity]
            gain = None
            if pooled:
                sign = -1 if pooled[0]["metric"] == "nll" else 1
                gain = sign * pooled[0]["difference"]
            rows.append(
                {
                    "arm": arm,
                    "budget": budget,
                    **row,
                    "flops_ratio": _ratio(row["flops_total"], reference["flops_total"]),
                    "seconds_ratio": _ratio(row["seconds_total"], reference["seconds_total"]),
                    "gain_per_1e15_flops": _ratio(gain, row["flops_total"], 1e15),
                    "gain_per_hour": _ratio(gain, row["seconds_total"], 3600),
                }
            )
    return rows


def _facts(runs: list[ArmRun]) -> dict[str, Any]:
    numbers = {name: [run.number(name) for run in runs] for name in (*_MEANS, "loss_last")}
    means = {
        name: float(np.mean([value for value in values if value is not None]))
        if None not in values and np.isfinite(np.array(values, float)).all()
        else None
        for name, values in numbers.items()
    }
    curation = max(
        (run.record["curation"] for run in runs if run.record.get("curation")),
        key=lambda curation: curation.get("seconds") or 0,  # later runs may have read it from the cache
        default=None,
    )
    spent = curation or {}
    arithmetic = _FLOPS_PER_PARAMETER * (spent.get("proxy_parameters") or 0) * (spent.get("tokens") or 0)
    return {
        "seeds": sorted(run.seed for run in runs),
        "runs": [run.place for run in runs],
        **means,
        "curation": curation and {**dict.fromkeys(_CURATION), **curation},
        "flops_total": None if means["flops"] is None else means["flops"] + arithmetic,
        "seconds_total": None if means["seconds"] is None else means["seconds"] + (spent.get("seconds") or 0),
        "device": runs[0].record["training"].get("device"),
    }


def _ratio(value: float | None, divisor: float | None, unit: float = 1.0) -> float | None:
    return None if value is None or not divisor else value / divisor * unit


def settings_notes(groups: Groups, baseline: str) -> list[str]:
    """Settings that differ between arms or within one; arms that differ in the same way share a line."""
    notes: list[str] = []
    within_arms: dict[str, list[str]] = {}
    between_arms: dict[str, list[str]] = {}
    for budget, members in groups.items():
        reference = _settings(next(iter(members[baseline].values())))
        for arm, runs in members.items():
            every = [_settings(run) for run in runs.values()]
            for keys_differing, into, at_budget in (
                (_differing(every[0], *every[1:]), within_arms, f" at {budget_name(budget)}"),
                (_differing(reference, every[0]), between_arms, ""),
            ):
                if keys_differing:
                    into.setdefault(_named(keys_differing) + at_budget, []).append(one_line(arm))
        devices = {str(run.record["training"].get("device")) for runs in members.values() for run in runs.values()}
        if len(devices) > 1:
            notes.append(
                f"The runs used different devices ({', '.join(sorted(devices))}): do not compare their seconds."
            )
    within = [f"The runs within {_arms(arms)} differ in {keys}." for keys, arms in within_arms.items()]
    between = [
        f"A{_arms(arms)[1:]} differ{'s' if len(set(arms)) == 1 else ''} from {one_line(baseline)} in more than "
        f"the data: {keys}."
        for keys, arms in between_arms.items()
    ]
    return [*within, *between, *notes]


def _arms(arms: list[str]) -> str:
    names = list(dict.fromkeys(arms))
    return f"arm{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _settings(run: ArmRun) -> dict[str, Any]:
    """Settings of a run that could explain a difference, flattened to "a.b" -> value."""
    flat = _flat({key: value for key, value in run.record.get("settings", {}).items() if key not in _MAY_DIFFER})
    return {**flat, "template": run.record.get("template"), "max_length": run.record.get("max_length")}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _differing(first: dict[str, Any], *rest: dict[str, Any]) -> list[str]:
    """Names of settings that differ; for components of different classes, the class (`use`) and not its fields."""
    keys = sorted({key for settings in (first, *rest) for key in settings})
    differing = [key for key in keys if any(settings.get(key) != first.get(key) for settings in rest)]
    other_kinds = sorted(
        key.removesuffix(".use") for key in differing if key.endswith(".use")
    )  # the whole before its parts
    return list(
        dict.fromkeys(next((kind for kind in other_kinds if key.startswith(f"{kind}.")), key) for key in differing)
    )


def _named(keys: list[str]) -> str:
    listing = ", ".join(one_line(key) for key in keys[:_SHOWN_KEYS])
    return listing if len(keys) <= _SHOWN_KEYS else f"{listing} and {len(keys) - _SHOWN_KEYS} more"
