"""Two processes compute what one computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_zoo import random_tokens, tiny_model

from curate import distributed
from curate.gradient import DivergenceError
from curate.optimizers import SAM, AdamW
from curate.train import TrainConfig, train

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()
CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sam": {"optimizer": SAM()},
    "micro batches": {"micro_batch_tokens": 60},
    "reweighted": {"reweighted": True},
    "reweighted micro batches": {"reweighted": True, "micro_batch_tokens": 60},
    "fewer rows than ranks": {"batch_size": 1, "reweighted": True},
    "frozen": {"frozen": True},
}


class Softmax:
    def weights(self, losses: torch.Tensor, tokens: torch.Tensor, step: int) -> torch.Tensor:
        return losses.softmax(0) * len(losses)


def train_case(case: dict[str, Any]) -> dict[str, Any]:
    """Losses and final weights of a short run."""
    settings = {"steps": 4, "batch_size": 6, "learning_rate": 1e-2, "precision": "float32", "warmup_ratio": 0.0}
    settings |= {"optimizer": AdamW(eps=1e-3)}  # a milder division, so that rounding is not blown up
    settings |= {key: value for key, value in case.items() if key not in ("reweighted", "frozen")}
    # Ranks may start from different weights; rank 0's count.
    model = tiny_model("llama_tied", seed=distributed.rank())
    if case.get("frozen"):
        model.get_input_embeddings().requires_grad_(False)
    reweighter = Softmax() if case.get("reweighted") else None
    tokens = random_tokens(LENGTHS, invalid=[3, 17])
    config = TrainConfig(**settings)
    *_, last = train(model, tokens, config, checkpoint_steps=[4], reweighter=reweighter)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {"losses": last.losses, "tokens_seen": last.tokens_seen, "weights": weights}


def diverge() -> tuple[int, list[int]]:
    """Step and rows of the error on a run with a poisoned token."""
    tokens = random_tokens(LENGTHS, vocabulary=200)
    tokens.ids[tokens.offsets[7]] = 200
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[200] = torch.nan
    config = TrainConfig(steps=8, batch_size=6, learning_rate=1e-3, precision="float32")
    try:
        list(train(model, tokens, config, checkpoint_steps=[]))
    except DivergenceError as error:
        return error.step, error.rows
    raise AssertionError("the poisoned run did not diverge")


def reduce_gradients() -> list[Any]:
    """Gradients after reduction: everywhere, on one rank only, nowhere, and beyond one bucket."""
    parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)] + [torch.nn.Parameter(torch.zeros(40, 50))]
    me = distributed.rank()
    parameters[0].grad = torch.full((3,), 1.0 + me)
    parameters[1].grad = torch.full((3,), 5.0) if me == 1 else None
    parameters[3].grad = torch.full((40, 50), 2.0 + me)
    distributed.sum_gradients_(parameters)
    return [None if p.grad is None else p.grad for p in parameters]


def two_ranks(folder: Path) -> list[dict[str, Any]]:
    """What both ranks of a torchrun of this very file found, per case."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        __file__,
        str(folder),
    ]
    root = Path(__file__).parents[1]
    paths = os.pathsep.join([str(root), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(ranks: list[dict[str, Any]], name: str) -> None:
    alone = train_case(CASES[name])
    first, second = (found[name] for found in ranks)
    assert first["losses"] == second["losses"]
    assert torch.equal(first["weights"], second["weights"])
    assert first["tokens_seen"] == alone["tokens_seen"]
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)
    start = torch.cat([p.detach().flatten() for p in tiny_model("llama_tied").parameters()])
    moved = float((alone["weights"] - start).norm())
    assert moved > 0.01
    assert float((first["weights"] - alone["weights"]).norm()) < 1e-3 * moved


@pytest.mark.slow
def test_all_ranks_name_the_rows_that_diverged(ranks: list[dict[str, Any]]) -> None:
    step, rows = diverge()
    assert rows == [7]
    for found in ranks:
        assert found["diverged"] == [step, rows]


@pytest.mark.slow
def test_gradients_are_added_and_absent_ones_stay_absent(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        everywhere, somewhere, nowhere, large = found["gradients"]
        assert torch.equal(everywhere, torch.full((3,), 3.0))
        assert torch.equal(somewhere, torch.full((3,), 5.0))
        assert nowhere is None
        assert torch.equal(large, torch.full((40, 50), 5.0))


def test_one_process_needs_no_process_group() -> None:
    distributed.start()
    distributed.barrier()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    tensor = torch.tensor([1.0, 2.0])
    assert distributed.sum_(tensor) is tensor
    assert tensor.tolist() == [1.0, 2.0]
    gradients = reduce_gradients()
    assert gradients[1] is None
    assert gradients[0] is not None
    assert gradients[0].tolist() == [1.0, 1.0, 1.0]


def _main(folder: Path) -> None:
    distributed.start()
    assert distributed.world_size() == 2
    distributed._BUCKET_ELEMENTS = 1000
    found: dict[str, Any] = {name: train_case(case) for name, case in CASES.items()}
    found["diverged"] = list(diverge())
    found["gradients"] = reduce_gradients()
    torch.save(found, folder / f"{distributed.rank()}.pt")
    distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
