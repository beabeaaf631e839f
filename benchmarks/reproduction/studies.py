"""The lists of runs: the reproduction itself, and what the paper leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.reproduction.settings import ARMS, BASELINE, ORACLE, Job, Settings
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss, Selective

STUDIES = ("factor", "proxy", "features", "domain", "online", "limits")
_FACTORS = (2, 3, 5, 10)
_PROXY_SIZES = ((32, 1), (64, 2), (96, 3))
# K = 5 in a third of an epoch is the setting of the paper; 15 checkpoints in one epoch are as far apart.
_PROXY_LENGTHS = (("1/10 epoch", 2), ("1/3 epoch", 5), ("1 epoch", 15))
# With the settings of the papers where they are known and fit: ADAPT and DGA have none, and an eighth of a batch, as
# Selective takes, would be four rows here. None is tuned. See the log.
_REWEIGHTERS: dict[str, Any] = {
    "dynamicloss": DynamicLoss(),
    "irdro": IRDRO(),
    "selective": Selective(fraction=0.5, portion=0),
    "adapt": ADAPT(anchors="anchors", tau=0.05, centered=True, mean_one=True, refresh_every=50),
    "dga": DGA(target="anchors", domains="level", eta=0.5, refresh_every=10),
}
_RHO = 0.05
# What else could be in the way: each with an original of its own.
_TRAINING: dict[str, dict[str, Any]] = {
    "lr 1e-3": {"learning_rate": 1e-3},
    "lr 4e-3": {"learning_rate": 4e-3},
    "1 pass": {"epochs": 1},
    "6 passes": {"epochs": 6},
}
_SCIENCE: dict[str, Any] = {
    "data": "science",
    "pretrain_rows": 4_000,
    "pretrain_epochs": 6,
    "proxy_pretrain_epochs": 3,
    "pretrain_learning_rate": 2e-3,
    "train_rows": 4_000,
    "test_rows": 1_500,
    "max_length": 96,
}


def reproduction(settings: Settings, seeds: Sequence[int]) -> list[Job]:
    """All arms at equal steps, and the hard arm at equal epochs, where the original takes the steps it took."""
    jobs = []
    for seed in seeds:
        jobs += [Job(arm, of, seed, "steps", settings) for arm, of in ARMS.items()]
        jobs.append(Job("hard", "hard", seed, "epochs", settings))
    return jobs


def study(name: str, settings: Settings, seeds: Sequence[int]) -> list[Job]:
    """The original and the variants of one study at equal steps. settings: what the variants depart from.

    "limits" asks what keeps the hard arm small: the choice of rows (an oracle has as many, by their known level), the
    learning rate or the number of passes.
    """
    if name == "domain":
        changed = settings.model_copy(update=_SCIENCE)
        return [Job(arm, of, seed, "steps", changed) for seed in seeds for arm, of in ARMS.items()]
    variants: dict[str, tuple[str, dict[str, Any]]] = {}
    if name == "online":
        variants = {"hard": ("hard", {}), "sam": (BASELINE, {"rho": _RHO}), "hard+sam": ("hard", {"rho": _RHO})}
        for label, reweighter in _REWEIGHTERS.items():
            variants[label] = BASELINE, {"reweighter": reweighter}
            variants[f"hard+{label}"] = "hard", {"reweighter": reweighter}
    elif name == "factor":
        for factor in _FACTORS:
            variants[f"hard x{factor}"] = "hard", {"times": factor - 1}
            variants[f"random x{factor}"] = "random", {"times": factor - 1}
    elif name == "features":
        variants = {kind: ("hard", {"features": kind}) for kind in ("absolute", "relative", "final")}
        variants["absolute per source"] = "hard", {"per_source": True}
    elif name == "limits":
        variants = {"hard": ("hard", {}), ORACLE: (ORACLE, {})}
    else:
        for hidden, layers in _PROXY_SIZES:
            size = {"proxy_hidden_size": hidden, "proxy_layers": layers}
            variants[f"proxy {hidden}x{layers}"] = "hard", size
        for length, checkpoints in _PROXY_LENGTHS:
            # Without the floor of steps, so that the lengths are those named.
            changes = {"proxy_steps": length, "checkpoints": checkpoints, "proxy_min_steps": 1}
            variants[f"{length} K={checkpoints}"] = "hard", changes
    jobs = []
    for seed in seeds:
        jobs.append(Job(BASELINE, BASELINE, seed, "steps", settings))
        jobs += [
            Job(label, of, seed, "steps", settings.model_copy(update=changes))
            for label, (of, changes) in variants.items()
        ]
        for label, changes in _TRAINING.items() if name == "limits" else ():
            changed, against = settings.model_copy(update=changes), f"{BASELINE} {label}"
            jobs += [Job(f"{of} {label}", of, seed, "steps", changed, against) for of in (BASELINE, "hard")]
    return jobs


def jobs_of(name: str | None, settings: Settings, seeds: Sequence[int]) -> list[Job]:
    """name: of a study; None = the reproduction."""
    return reproduction(settings, seeds) if name is None else study(name, settings, seeds)
