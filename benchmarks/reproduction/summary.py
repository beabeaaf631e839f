"""What the finished runs say: a table for the terminal and a record for benchmarks/results/."""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reproduction.settings import BASELINE, Job
from benchmarks.reproduction.work import finished
from curate.comparison.compare import Comparison, compare

# Stated before the confirmatory runs: the outcome that decides, and what is asked of it.
PRIMARY: dict[str, Any] = {
    "budget": "steps",
    "set": "balanced",
    "metric": "nll",
    "claim": "hard is better than original: its 95 % interval excludes zero; random and easy are not",
    "target": "5 % relative",
    "expected": "3 to 4 % relative, from one development seed",
    "detectable": "2 to 3 % relative with 5 seeds, 1.5 to 2 % with 10, if paired differences vary by 1.5 % over seeds",
}
_KEPT = (
    *("arm", "baseline", "budget", "set", "metric", "baseline_mean", "arm_mean", "difference", "low", "high"),
    *("relative", "relative_low", "relative_high", "detectable", "detectable_relative", "verdict", "p"),
    *("seeds", "examples"),
)
_LEVEL = (
    "arm",
    "baseline",
    "budget",
    "set",
    "metric",
    "level",
    "baseline_mean",
    "arm_mean",
    "difference",
    "low",
    "high",
    "verdict",
)


def summarize(jobs: Sequence[Job], out: Path, command: str, record: Path | None) -> dict[str, Any]:
    """Compare the finished runs with those they are held against, print, write the record, and pages into `out`.

    The page of what is held against the original is report.html, others are named after their baseline.
    """
    done = [job for job in jobs if finished(job, out)]
    comparisons = []
    for against in dict.fromkeys(job.against for job in done):
        group = [job for job in done if job.against == against]
        if against in {job.name for job in group} and len({job.name for job in group}) > 1:
            comparisons.append(compare([out / "runs" / job.folder for job in group], against))
            page = "report" if against == BASELINE else f"report-{against.replace(' ', '-')}"
            comparisons[-1].write(out / f"{page}.html")
    result = _record(done, len(jobs), [out / "runs" / job.folder for job in done], comparisons, command)
    _print(result)
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _record(
    done: Sequence[Job], planned: int, folders: Sequence[Path], comparisons: Sequence[Comparison], command: str
) -> dict[str, Any]:
    compared = [condensed(each.record) for each in comparisons]
    differences = [each for part in compared for each in part["differences"]]
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    return {
        "command": command,
        "runs_done": len(done),
        "runs_planned": planned,
        "primary": PRIMARY | {"found": _decision(differences)},
        "settings": runs[0]["settings"],
        "model": runs[0]["model"],
        "differences": [each for each in differences if each["set"] != "mean of sets"],
        "levels": [each for part in compared for each in part["levels"]],
        "scores": [each for part in compared for each in part["scores"]],
        "runs": [_run(run, folder, runs[0]["settings"]) for run, folder in zip(runs, folders, strict=True)],
        "notes": list(dict.fromkeys(note for part in compared for note in part["notes"])),
        **made_with(),
    }


def condensed(comparison: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of a comparison.json: differences, also by level, and the scores behind them."""
    return {
        "differences": [{key: _short(each[key]) for key in _KEPT} for each in comparison["differences"]],
        "levels": [{key: _short(each[key]) for key in _LEVEL} for each in comparison["levels"]],
        "scores": comparison["scores"],
        "notes": comparison["notes"],
    }


def made_with() -> dict[str, Any]:
    """The machine and the versions that a record was made with."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }


def _run(run: dict[str, Any], folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    scores = {}
    for path in sorted(folder.glob("evaluation/*/summary.json")):
        summary = json.loads(path.read_text())
        scores[summary["name"]] = {key: _short(summary[key]) for key in ("nll", "nll_rows", "accuracy")}
    training = {key: _short(run["training"][key]) for key in ("steps", "epochs", "tokens", "seconds", "loss_last")}
    return {
        **{key: run[key] for key in ("arm", "seed", "budget", "curation", "choice", "curve")},
        **training,
        "rows": run["data"]["rows"],
        "changed_settings": {key: value for key, value in run["settings"].items() if value != settings[key]},
        "scores": scores,
    }


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _decision(differences: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Verdict of the primary outcome for every arm."""
    chosen = [each for each in differences if all(each[key] == PRIMARY[key] for key in ("budget", "set", "metric"))]
    return {each["arm"]: each["verdict"] for each in chosen}


def _print(record: dict[str, Any]) -> None:
    print(f"\n{record['runs_done']} of {record['runs_planned']} runs; differences from the baseline, 95 % intervals")
    print(f"\n{'budget':<7} {'set':<9} {'metric':<9} {'arm':<18} {'baseline':>9} {'arm':>8} {'relative':>9}  interval")
    for each in record["differences"]:
        if each["set"] == "pooled":
            continue
        low, high, relative = each["relative_low"], each["relative_high"], each["relative"]
        interval = "no bound" if low is None or high is None else f"{low:+.1%} .. {high:+.1%}"
        print(
            f"{each['budget']:<7} {each['set']:<9} {each['metric']:<9} {each['arm']:<18} {each['baseline_mean']:>9.4f} "
            f"{each['arm_mean']:>8.4f} {'' if relative is None else format(relative, '+.1%'):>9}  {interval}  "
            f"{each['verdict']}"
        )
    print("\nchange of nll on the balanced set by level, relative")
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in record["levels"]:
        if each["set"] == "balanced" and each["metric"] == "nll":
            change = each["arm_mean"] / each["baseline_mean"] - 1 if each["baseline_mean"] else np.nan
            rows[each["budget"], each["arm"]].append(f"{each['level']}: {change:+.1%}")
    for (budget, arm), cells in rows.items():
        print(f"  {budget:<7} {arm:<18} {'  '.join(cells)}")
    print(f"\nprimary outcome: {record['primary']['found']}")
