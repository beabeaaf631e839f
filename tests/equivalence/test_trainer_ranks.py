"""Two processes under transformers' Trainer train as one does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from curate.devices import distributed
from curate.reweighters.trainers import reweight
from tests.fixtures.forked import Forked
from tests.fixtures.trainers import BATCH, METHODS, ROWS, adapted, assert_close, model, trained, trainer

# -- two processes -----------------------------------------------------------------------------------------------------
CASES: dict[str, dict[str, Any]] = {
    "plain": {"name": "losses"},
    "accumulated": {"name": "losses", "accumulated": 2},
    "rows": {"name": "worst", "accumulated": 2},
    "embeddings": {"name": "embeddings", "accumulated": 2},
    "gradients": {"name": "gradients"},
    "LoRA": {"name": "embeddings", "lora": True},
}


def case(folder: Path, name: str, accumulated: int = 1, lora: bool = False) -> dict[str, Any]:
    """Weights after training and mean weights of the rows; the batch is the same for any number of processes."""
    per_device = BATCH // accumulated // distributed.world_size()
    more = {"train_sampling_strategy": "sequential", "kind": transformers.Trainer}
    if "LOCAL_RANK" in os.environ:
        more["ddp_backend"] = "gloo"
    of = adapted(model()) if lora else model()
    ready = trainer(folder, accumulated, of=of, per_device_train_batch_size=per_device, **more)
    weighing = reweight(ready, METHODS[name], rows=ROWS)
    weights = trained(ready)
    means, times = weighing.mean_weights()
    return {"weights": weights, "means": torch.from_numpy(means), "times": torch.from_numpy(times)}


@pytest.fixture(scope="module")
def ranks(forked: Forked, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks of this very file found, per case."""
    folder = tmp_path_factory.mktemp("ranks")
    done = forked.run(__file__, folder, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_does(ranks: list[dict[str, Any]], name: str, tmp_path: Path) -> None:
    alone = case(tmp_path, **CASES[name])
    first, second = (found[name] for found in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert_close(first["weights"], alone["weights"], adapted(model()) if CASES[name].get("lora") else model())
    assert torch.equal(first["times"], alone["times"])
    torch.testing.assert_close(first["means"], alone["means"], rtol=1e-3, atol=1e-5, equal_nan=True)
    assert float(alone["means"].nan_to_num(1).std()) > 0.01


if __name__ == "__main__":
    distributed.start()
    found = {name: case(Path(sys.argv[1]) / name, **each) for name, each in CASES.items()}
    assert distributed.world_size() == 2
    torch.save(found, Path(sys.argv[1]) / f"{distributed.rank()}.pt")
    distributed.barrier()
    torch.distributed.destroy_process_group()
