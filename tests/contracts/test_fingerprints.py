"""Fingerprints are keys of caches: no move of a module changes one, and no two components share one."""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import augmenters
import curate
import curate.clusterers
import curate.generators
import scorers
from curate.component import Component, describe, fingerprint, public_path

GOLDEN = Path(__file__).parent / "golden_fingerprints.json"
SCRIPTS = ("__main__", "math_verify_worker", "sandbox_child", "watchdog")  # run as processes, not imported

GRADIENT = {"parameters": "all", "rank": 4}
PIPELINE = {"scorer": scorers.Length(), "clusterer": curate.clusterers.KMeans()}
# What components that have required parameters are made with.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "augmenters.Replay": {"data": "rows.parquet", "share": 0.1},
    "augmenters.Subset": {"size": 10},
    "augmenters.Synthesize": {"generator": curate.generators.Transformers(model="model")},
    "curate.Addition": {"name": "mine", "data": "rows.parquet"},
    "curate.BudgetProxy": {"last_step": 2, "schedule_steps": 6},
    "curate.EvaluationSet": {"data": "rows.parquet"},
    "curate.Finetuning": {"model": "model"},
    "curate.HalfProxy": {"own_step": 1, "last_step": 2, "schedule_steps": 6},
    "curate.ForecastSettings": {"steps": 100},
    "curate.FurtherData": {"data": "rows.parquet"},
    "curate.GradientParts": GRADIENT,
    "curate.Pipeline": PIPELINE,
    "curate.TrainConfig": {"steps": 3, "learning_rate": 1e-3},
    "curate.Validation": {"pipeline": curate.Pipeline(**PIPELINE), "finetuning": curate.Finetuning(model="model")},
    "curate.clusterers.PerSource": {"clusterer": curate.clusterers.KMeans()},
    "curate.clusterers.Threshold": {"value": 1.0},
    "curate.generators.Transformers": {"model": "model"},
    "curate.generators.VLLMServer": {"model": "model"},
    "curate.optimizers.FunctionalSAM": {"base": "adamw"},
    "curate.reweighters.ADAPT": {"anchors": "rows.parquet"},
    "curate.reweighters.DGA": {"target": "rows.parquet"},
    "scorers.Alignment": {"target": "rows.parquet", "name": "x", "of": GRADIENT, "similarity": "cosine"},
    "scorers.GradientAlignment": {"target": "rows.parquet"},
    "scorers.Learnability": {"reference": "model"},
    "scorers.Product": {"scorers": (scorers.Length(), scorers.FinalLoss())},
    "scorers.RankAverage": {"scorers": (scorers.Length(), scorers.FinalLoss())},
    "scorers.LossUnderReference": {"model": "model", "identity": "files:0"},
    "scorers.ReferenceLoss": {"model": "model"},
}


def _components() -> dict[str, type[Component]]:
    """Every component of ours by its public path."""
    found: dict[str, type[Component]] = {}
    for package in (curate, scorers, augmenters):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if info.name.rpartition(".")[2] in SCRIPTS:
                continue
            for kind in vars(importlib.import_module(info.name)).values():
                if isinstance(kind, type) and issubclass(kind, Component) and kind.__module__ == info.name:
                    path = public_path(kind)
                    assert found.setdefault(path, kind) is kind, f"two components are known as {path}"
    del found["curate.Component"]
    return found


COMPONENTS = _components()


def _made(path: str) -> Component:
    return COMPONENTS[path](**ARGUMENTS.get(path, {}))


@pytest.mark.parametrize("path", COMPONENTS)
def test_a_component_has_the_fingerprint_it_always_had(path: str) -> None:
    """Where a change is meant: raise `version`; `python tests/contracts/test_fingerprints.py` writes the new ones."""
    assert fingerprint(_made(path)) == json.loads(GOLDEN.read_text())[path]


def test_every_golden_fingerprint_is_of_a_component() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(COMPONENTS)
    assert len(set(golden.values())) == len(golden)


@pytest.mark.parametrize(
    "module", ["curate", "scorers", "augmenters", "curate.clusterers", "curate.graders", "curate.reweighters"]
)
def test_the_path_is_the_one_users_import(module: str) -> None:
    public = importlib.import_module(module)
    kinds = [kind for kind in vars(public).values() if isinstance(kind, type) and issubclass(kind, Component)]
    for kind in kinds:
        if kind.__name__ in public.__all__:
            assert public_path(kind) == f"{module}.{kind.__name__}"


def test_a_moved_class_keeps_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a move of its module within the package."""
    for path in ("scorers.LossTrajectory", "curate.MeanLoss", "curate.clusterers.KMeans"):
        kind, before = COMPONENTS[path], fingerprint(_made(path))
        home = "curate.clusterers.kmeans" if "clusterers" in path else f"{kind.__module__.partition('.')[0]}.somewhere"
        monkeypatch.setattr(kind, "__module__", home)
        assert fingerprint(_made(path)) == before


def test_a_class_of_somebody_else_is_known_by_its_module() -> None:
    assert describe(Path) == "pathlib.Path"
    assert public_path(json.JSONDecoder) == "json.decoder.JSONDecoder"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({path: fingerprint(_made(path)) for path in sorted(COMPONENTS)}, indent=1) + "\n")
