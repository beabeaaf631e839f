"""Measure the quality of a proxy's split along its training, and where stopping rules stop."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.reproduction.summary import made_with
from benchmarks.when.families import families
from benchmarks.when.family import Family, Task
from benchmarks.when.settings import Setting
from benchmarks.when.stored import DATA
from curate.clusterers import KMeans
from curate.errors import InputError
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.types import BoolArray, FloatArray

_DETAILS = """\
    python -m benchmarks.when.proxy_length --out DIR [--families symbols,...] [--seeds 0,1] [--data DIR]
        [--time-limit MINUTES] [--record FILE.json] [--page FILE.md] [--figure FILE.svg]

In two clean cells and a noisy one of every family a proxy is trained on three quarters of the rows, and read off at a
geometric grid from a quarter of its length in the map to four times that. The same command resumes. What the rules
are and what is expected of them stands in benchmarks/LOG.md.
"""

FROM, TO, RATIO = 1 / 4, 4, 2**0.5  # of the length in the map; of one point to the next
POINTS = 5  # of the grid that a split looks back on
HELD_OUT = 4  # one row of so many is held out
SHARE = 0.1
AGREE, FELL = 0.8, 0.05  # of the candidate rule

Point = Mapping[str, Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for models and finished cells")
    parser.add_argument("--families", help="which (all)")
    parser.add_argument("--seeds", default="0,1", help="which (0,1)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of files that families read ({DATA})")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="begin no cell after that")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--page", type=Path, help="Markdown tables")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(arguments)
    known = families(options.data)
    names = options.families.split(",") if options.families else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"--families: {', '.join(sorted(unknown))} not among {', '.join(known)}")
    deadline = None if options.time_limit is None else time.monotonic() + 60 * options.time_limit
    try:
        wanted = [
            (known[name], setting, int(seed))
            for seed in options.seeds.split(",")
            for name in names
            for setting in cells(known[name])
        ]
    except InputError as error:
        parser.error(str(error))
    cell_records, left = [], 0
    for family, setting, seed in wanted:
        place = options.out / "cells" / f"{setting.family}-{setting.name}-{seed}.json"
        if not place.is_file():
            if deadline is not None and time.monotonic() > deadline:
                left += 1
                continue
            cell = one(family, setting, seed, options.out / "cache")
            publish_file(place, json.dumps(cell) + "\n")
        cell_records.append(json.loads(place.read_text(encoding="utf-8")))
    if cell_records:
        given_arguments = sys.argv[1:] if arguments is None else arguments
        _write(cell_records, options, shlex.join(["python", "-m", "benchmarks.when.proxy_length", *given_arguments]))
    if left:
        print(f"{left} cells are left; the same command goes on", file=sys.stderr)
    return 3 if left else 0


def cells(family: Family) -> list[Setting]:
    """Clean ones at a share of 0.1, and the noisiest there where the frequent part is known."""
    chosen = [each for each in family.settings() if each.share == SHARE and not each.unlearnable]
    noisy = [each for each in chosen if each.noise and each.knows == "frequent"]
    return [each for each in chosen if not each.noise] + sorted(noisy, key=lambda each: each.noise)[-1:]


def one(family: Family, setting: Setting, seed: int, cache: Path) -> dict[str, Any]:
    """A cell: the points of the grid, and where every rule stops."""
    import torch

    torch.set_num_threads(1)
    task = family.prepare(setting, seed, cache)
    points = along(task, seed)
    best = max(point["f1"] for point in points)
    stops = {name: rule(points) for name, rule in RULES.items()}
    return {
        "family": setting.family,
        "name": setting.name,
        "seed": seed,
        "proxy_steps": task.proxy_steps,
        "points": points,
        "best_f1": best,
        "best_step": next(point["step"] for point in points if point["f1"] == best),
        "stops": {name: {"step": points[k]["step"], "f1": points[k]["f1"]} for name, k in stops.items()},
    }


def along(task: Task, seed: int) -> list[dict[str, Any]]:
    """What the split is at every point of the grid."""
    n = len(task.rows)
    order = np.random.default_rng(derive_seed(seed, "when", "proxy length")).permutation(n)
    held_out = np.zeros(n, bool)
    held_out[order[: n // HELD_OUT]] = True
    train = task.rows.filter(pa.array(~held_out))
    steps = grid(task.proxy_steps)
    losses = task.proxy_losses(train, task.rows, steps, derive_seed(seed, "when", "length"))  # (n, G)
    rare = task.rows["rare"].to_numpy(zero_copy_only=False)
    return points_of(losses, steps, held_out, rare)


def points_of(losses: FloatArray, steps: Sequence[int], held_out: BoolArray, rare: BoolArray) -> list[dict[str, Any]]:
    """losses: (n, G) nats per token at the steps, under a proxy trained on the rows that are not held out (n,).

    Splits are of the rows trained on. easy_loss: mean of the held-out rows that are nearer to the easy mean;
    fell: by how much of it that has fallen since the point before, for the same rows.
    """
    points, before = list[dict[str, Any]](), None
    for place, step in enumerate(steps):
        features = losses[:, max(0, place - POINTS + 1) : place + 1]
        hard = hard_rows(features[~held_out], losses[~held_out, place])
        outside = KMeans().assign(features[~held_out], hard.astype(np.int32), features[held_out]) == 1
        easy = losses[held_out][~outside]
        truth = rare[~held_out]
        precision = float(truth[hard].mean()) if hard.any() else 0.0
        recall = float(hard[truth].mean())
        points.append(
            {
                "step": int(step),
                "hard_share": _short(hard.mean()),
                "precision": _short(precision),
                "recall": _short(recall),
                "f1": _short(2 * precision * recall / (precision + recall)) if precision + recall else 0.0,
                "jaccard": None if before is None else _short(jaccard(hard, before)),
                "easy_loss": _short(easy[:, place].mean()) if len(easy) else None,
                "fell": _short(1 - easy[:, place].mean() / easy[:, place - 1].mean()) if place and len(easy) else None,
            }
        )
        before = hard
    return points


def hard_rows(features: FloatArray, losses: FloatArray) -> BoolArray:
    """(n,) the cluster of the higher mean loss."""
    labels = KMeans().fit_predict(features)
    means = [losses[labels == number].mean() for number in (0, 1) if (labels == number).any()]
    return labels == int(np.argmax(means))


def jaccard(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Rows in both sets, as a share of those in either; 1 for two empty sets."""
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def grid(length: int) -> list[int]:
    """Geometric steps around a length."""
    count = int(np.floor(np.log(TO / FROM) / np.log(RATIO) + 1e-9)) + 1
    steps = np.round(length * FROM * RATIO ** np.arange(count)).astype(int)
    return sorted({max(1, step) for step in steps.tolist()})


# -- stopping rules: the place in the grid at which each would have stopped ------------------------------------------


def _agree(points: Sequence[Point], place: int) -> bool:
    return place >= 2 and all(points[k]["jaccard"] >= AGREE for k in (place - 1, place))


def _settled(points: Sequence[Point], place: int) -> bool:
    return place >= 1 and points[place]["fell"] is not None and points[place]["fell"] < FELL


def _first(condition: Callable[[Sequence[Point], int], bool]) -> Callable[[Sequence[Point]], int]:
    def stop(points: Sequence[Point]) -> int:
        return next((k for k in range(len(points)) if condition(points, k)), len(points) - 1)

    return stop


def _fixed(factor: float) -> Callable[[Sequence[Point]], int]:
    """Nearest on the grid, whose first point is FROM times the length of the map."""

    def stop(points: Sequence[Point]) -> int:
        wanted = factor / FROM * points[0]["step"]
        return int(np.argmin([abs(np.log(point["step"] / wanted)) for point in points]))

    return stop


RULES: dict[str, Callable[[Sequence[Point]], int]] = {
    "agreement and easy loss": _first(lambda points, k: _agree(points, k) and _settled(points, k)),
    "agreement": _first(_agree),
    "easy loss": _first(_settled),
    "half the length": _fixed(0.5),
    "the length of the map": _fixed(1),
    "twice the length": _fixed(2),
    "four times the length": _fixed(4),
}


# -- what is written --------------------------------------------------------------------------------------------------


def summary(cell_records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per family, and of all: for every rule mean F1 where it stops, its loss against the best, and the length."""
    rows = []
    for name in [*dict.fromkeys(cell["family"] for cell in cell_records), "all"]:
        chosen = [cell for cell in cell_records if name in (cell["family"], "all")]
        for rule in RULES:
            stops = [cell["stops"][rule] for cell in chosen]
            lost = [cell["best_f1"] - stop["f1"] for cell, stop in zip(chosen, stops, strict=True)]
            lengths = [stop["step"] / cell["proxy_steps"] for cell, stop in zip(chosen, stops, strict=True)]
            rows.append(
                {
                    "family": name,
                    "rule": rule,
                    "cells": len(chosen),
                    "f1": _short(np.mean([stop["f1"] for stop in stops])),
                    "lost": _short(np.mean(lost)),
                    "most_lost": _short(np.max(lost)),
                    "length": _short(np.exp(np.mean(np.log(lengths)))),
                }
            )
    return rows


def page(cell_records: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: rules by family, and the points of every cell, seeds averaged."""
    lines = [
        "# Length of the proxy",
        "",
        "F1 of the hard cluster for the rare part where each rule stops; lost: best F1 of the grid less that, mean",
        "(worst); length: geometric mean, as a multiple of the map's.",
        "",
        "| family | cells | rule | F1 | lost | length |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['family']} | {row['cells']} | {row['rule']} | {row['f1']:.2f} "
        f"| {row['lost']:.2f} ({row['most_lost']:.2f}) | {row['length']:.2f} |"
        for row in rules
    ]
    lines += [
        "",
        "Along training, means over seeds. Easy loss: nats per token of held-out rows of the easy cluster.",
        "",
    ]
    lines += [
        "| family, cell | step | hard share | precision | recall | Jaccard | easy loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, name in dict.fromkeys((cell["family"], cell["name"]) for cell in cell_records):
        seeds = [cell["points"] for cell in cell_records if (cell["family"], cell["name"]) == (family, name)]
        for at in zip(*seeds, strict=True):
            values = [_mean(at, key) for key in ("hard_share", "precision", "recall", "jaccard", "easy_loss")]
            lines.append(f"| {family}, {name} | {at[0]['step']} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _mean(points: Sequence[Point], key: str) -> str:
    values = [point[key] for point in points if point[key] is not None]
    return f"{np.mean(values):.2f}" if values else ""


def draw(cell_records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One panel per cell: hard share, precision, recall and agreement against the length."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "proxy length"
    names = list(dict.fromkeys((cell["family"], cell["name"]) for cell in cell_records))
    rows = -(-len(names) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(12, 2.7 * rows), squeeze=False, layout="constrained", sharey=True)
    keys = {"hard_share": "hard share", "precision": "precision", "recall": "recall", "jaccard": "agreement"}
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, (family, name) in zip(axes.flat, names, strict=False):
        seeds = [cell for cell in cell_records if (cell["family"], cell["name"]) == (family, name)]
        for key, color in zip(keys, ("#888888", "#4477aa", "#66ccee", "#cc6677"), strict=True):
            for number, cell in enumerate(seeds):
                points = [point for point in cell["points"] if point[key] is not None]
                x = [point["step"] / cell["proxy_steps"] for point in points]
                label = keys[key] if number == 0 else None
                axis.plot(x, [point[key] for point in points], color=color, label=label, linewidth=1.2)
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, 1.02)
        axis.set_title(f"{family}: {name.replace('-share-0.1', '').replace('-unlearnable-0', '')}", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("length of the proxy, as a multiple of the map's", fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _write(cell_records: list[dict[str, Any]], options: argparse.Namespace, command: str) -> None:
    rules = summary(cell_records)
    text = page(cell_records, rules)
    print(text)
    if options.record:
        record = {"command": command, "rules": rules, "cells": cell_records, **made_with()}
        publish_file(options.record, json.dumps(record, indent=1) + "\n")
    if options.page:
        publish_file(options.page, text)
    if options.figure:
        draw(cell_records, options.figure)


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")


if __name__ == "__main__":
    sys.exit(main())
