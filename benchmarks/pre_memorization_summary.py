"""What runs say of pre-memorization accuracy as a predictor of test accuracy: R^2, thresholds, points and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorers.pre_memorization import masked_accuracy, pre_memorization_accuracy

Array = npt.NDArray[np.float64]

THRESHOLDS = (*(round(float(p), 2) for p in np.arange(-4.0, 0.41, 0.1)),)


@dataclass(frozen=True)
class FineTuning:
    """One run. rows: of the training data, the first so many; learning_rate: peak of a linear schedule; every: epochs
    from one look to the next, 1 as the paper has it, more where a run is long.
    """

    name: str
    rows: int
    epochs: int
    learning_rate: float
    every: int = 1


def explained(predicted: npt.ArrayLike, actual: npt.ArrayLike) -> dict[str, float]:
    """R^2 of points (N,): of the best line (correlation squared), and of y = x, which can be below zero."""
    x, y = np.asarray(predicted, float), np.asarray(actual, float)
    total = ((y - y.mean()) ** 2).sum()
    correlation = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 else 0.0
    return {
        "correlation": correlation**2,
        "identity": float(1 - ((y - x) ** 2).sum() / total),
        "sign": np.sign(correlation),
    }


@dataclass(frozen=True)
class Curves:
    """What a run was like at each of K looks: accuracy and nll (K, n) of training rows, test (K,) accuracy."""

    run: FineTuning
    accuracy: Array
    nll: Array
    test: Array

    def solved(self, threshold: float) -> Array:
        """(K,) mean pre-memorization accuracy."""
        solved_share: Array = pre_memorization_accuracy(self.accuracy, self.nll, threshold).mean(axis=1)
        return solved_share


def best_threshold(runs: Sequence[Curves], thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The threshold with which mean pre-memorization accuracy is nearest to test accuracy, y = x, over all epochs."""
    test = np.concatenate([each.test for each in runs])

    def error(threshold: float) -> float:
        return float(((np.concatenate([each.solved(threshold) for each in runs]) - test) ** 2).mean())

    return min(thresholds, key=error)


def held_out(runs: Sequence[Curves], thresholds: Sequence[float] = THRESHOLDS) -> list[float]:
    """For each run the best threshold of the others."""
    return [best_threshold([*runs[:k], *runs[k + 1 :]], thresholds) for k in range(len(runs))]


def summary(runs: Sequence[Curves]) -> dict[str, Any]:
    """R^2 of every predictor, and all points."""
    test = np.concatenate([each.test for each in runs])
    chosen = held_out(runs)
    last = np.cumsum([len(each.test) for each in runs]) - 1
    predictors = {
        "train accuracy": np.concatenate([each.accuracy.mean(axis=1) for each in runs]),
        "train loss": np.concatenate([-each.nll.mean(axis=1) for each in runs]),
        "PreMem, p of the other runs": np.concatenate([each.solved(p) for each, p in zip(runs, chosen, strict=True)]),
    }
    swept = [{"p": p, **_rounded(explained(np.concatenate([r.solved(p) for r in runs]), test))} for p in THRESHOLDS]
    points = []
    for each, p in zip(runs, chosen, strict=True):
        for epoch in range(len(each.test)):
            points.append(
                {
                    "run": each.run.name,
                    "epoch": (epoch + 1) * each.run.every,
                    "test_accuracy": each.test[epoch],
                    "train_accuracy": each.accuracy[epoch].mean(),
                    "nll_mean": each.nll[epoch].mean(),
                    "nll_deciles": np.quantile(each.nll[epoch], np.arange(0.1, 1, 0.2)).tolist(),
                    "memorized": (each.nll[epoch] < np.exp(p)).mean(),
                    "masked_accuracy": masked_accuracy(each.accuracy, each.nll, p)[epoch].mean(),
                    "pre_memorization_accuracy": each.solved(p)[epoch],
                    "p": p,
                }
            )
    return {
        "points": len(test),
        "r2": {name: _rounded(explained(values, test)) for name, values in predictors.items()},
        "r2_last_epochs": {name: _rounded(explained(values[last], test[last])) for name, values in predictors.items()},
        "p_of_the_other_runs": {each.run.name: p for each, p in zip(runs, chosen, strict=True)},
        "p_of_all_runs": best_threshold(runs),
        "r2_by_p": swept,
        "all_points": [{key: _round(value) for key, value in point.items()} for point in points],
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: _round(value) for key, value in values.items()}


def _round(value: Any) -> Any:
    if isinstance(value, list):
        return [_round(each) for each in value]
    return value if isinstance(value, str | int) else round(float(value), 4)


def draw(record: dict[str, Any], path: Path) -> None:
    """Test accuracy against train accuracy and against pre-memorization accuracy, a color per run, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "pre-memorization", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 4.2), sharey=True)
    names = {"train_accuracy": "train accuracy", "pre_memorization_accuracy": "pre-memorization train accuracy"}
    for axes, (key, label) in zip(panels, names.items(), strict=True):
        axes.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
        axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.9)
        for name in record["p_of_the_other_runs"]:
            points = [each for each in record["all_points"] if each["run"] == name]
            values = [[each[which] for each in points] for which in (key, "test_accuracy")]
            axes.plot(*values, "o-", markersize=3.5, linewidth=0.8, label=name)
        axes.set(xlabel=label, xlim=(0, 1), ylim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="test accuracy")
    panels[1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
