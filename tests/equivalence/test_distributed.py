"""Two processes compute what one computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.devices import distributed
from curate.errors import DivergenceError
from curate.optimizers import SAM, AdamW, FunctionalSAM, Muon
from curate.reweighters import ADAPT, DGA, IRDRO, Selective
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import TrainingRows
from tests.fixtures.forked import Forked
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import Softmax

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()


FURTHER = random_tokens([(4, 6), (9, 3), (2, 11)], seed=9)


CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sam": {"optimizer": SAM()},
    "micro batches": {"micro_batch_tokens": 60},
    "reweighted": {"reweighted": True},
    "reweighted micro batches": {"reweighted": True, "micro_batch_tokens": 60},
    "adapt": {"reweighter": ADAPT(anchors="a", tau=0.1, refresh_every=2)},
    "adapt, micro batches": {"reweighter": ADAPT(anchors="a", tau=0.1), "micro_batch_tokens": 60},
    "adapt, fewer rows than ranks": {"reweighter": ADAPT(anchors="a", tau=0.1), "batch_size": 1},
    "domains": {"reweighter": DGA(target="t", refresh_every=2, rows_per_gradient=3)},
    "fewer rows than ranks": {"batch_size": 1, "reweighted": True},
    "frozen": {"frozen": True},
    "muon": {"optimizer": Muon(learning_rate=0.02, adamw=AdamW(eps=1e-3))},
    "sam around muon": {"optimizer": SAM(base=Muon(learning_rate=0.02, adamw=AdamW(eps=1e-3)))},
    "functional sam": {"optimizer": FunctionalSAM(base=AdamW(eps=1e-3)), "micro_batch_tokens": 60, "reweighted": True},
    "preconditioned": {"optimizer": FunctionalSAM(base=AdamW(eps=1e-3), preconditioned=True)},
    # On one rank of two, in its first pass, where the others are already asking the reweighter or adding up.
    "sharded": {"sharding": "fsdp", "micro_batch_tokens": 60},
    "sharded, reweighted": {"sharding": "fsdp", "micro_batch_tokens": 60, "reweighted": True},
    "rows": {"reweighter": IRDRO(), "micro_batch_tokens": 60},
    "sharded, rows": {"sharding": "fsdp", "reweighter": Selective(fraction=0.5), "micro_batch_tokens": 60},
    "sharded, recomputed": {"sharding": "fsdp", "gradient_checkpointing": True, "weight_decay": 0.1},
    "sharded, frozen": {"sharding": "fsdp", "frozen": True, "batch_size": 1},
    "out of memory": {"micro_batch_tokens": 100, "fails": 1},
    "out of memory, reweighted": {"micro_batch_tokens": 100, "fails": 1, "reweighted": True},
    "out of memory, one part": {"fails": 1, "reweighted": True},
    "out of memory, at the anchors": {"fails": 1, "looking": True, "reweighter": ADAPT(anchors="a", tau=0.1)},
    "out of memory, at domains": {
        "fails": 2,
        "looking": True,
        "reweighter": DGA(target="t", refresh_every=2, rows_per_gradient=3),
    },
    "out of memory, functional sam": {"optimizer": FunctionalSAM(base=AdamW(eps=1e-3)), "fails": 2},
}


def train_case(case: dict[str, Any]) -> dict[str, Any]:
    """Losses and final weights of a short run."""
    settings = {"steps": 4, "batch_size": 6, "learning_rate": 1e-2, "precision": "float32", "warmup_ratio": 0.0}
    settings |= {"optimizer": AdamW(eps=1e-3)}  # a milder division, so that rounding is not blown up
    settings |= {
        key: value
        for key, value in case.items()
        if key not in ("reweighted", "reweighter", "frozen", "fails", "looking")
    }
    # Ranks may start from different weights; rank 0's count.
    model = tiny_model("llama_tied", seed=distributed.rank())
    if case.get("frozen"):
        model.get_input_embeddings().requires_grad_(False)
    reweighter = Softmax() if case.get("reweighted") else case.get("reweighter")
    tokens = random_tokens(LENGTHS, invalid=[3, 17])
    config = TrainConfig(**settings)
    sizes: list[int] = []
    steps = train(
        model,
        tokens,
        config,
        checkpoint_steps=[0, 4] if "fails" in case else [4],
        reweighter=reweighter,
        rows=TrainingRows({"domain": ["a", "b"] * 20 + ["a"]}, "domain", lambda data, reading: FURTHER),
        log=lambda record: sizes.append(record.micro_batch_tokens),
    )
    for last in steps:
        if last.step == 0 and distributed.rank() == 1:  # not before: the loop tries out the model, in eval mode
            fail(model, case["fails"], training=not case.get("looking"))
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {"losses": last.losses, "tokens_seen": last.tokens_seen, "weights": weights, "sizes": sizes}


def fail(model: Any, call: int, *, training: bool) -> None:
    """Let memory run out in the `call`-th forward pass in training mode, or in eval mode."""
    count = 0

    def after(*_: Any) -> None:
        nonlocal count
        count += model.training == training
        if model.training == training and count == call:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.model.layers[0].register_forward_hook(after)


def resume_sharded(folder: Path) -> list[Any]:
    """Losses and weights of a sharded run, and of one that went on from its checkpoint in the middle."""
    settings = {"steps": 4, "batch_size": 6, "learning_rate": 1e-2, "precision": "float32", "sharding": "fsdp"}
    config = TrainConfig(**settings)
    tokens, found = random_tokens(LENGTHS), []
    for model, resume in ((tiny_model(), None), (tiny_model(seed=5), folder)):
        for checkpoint in train(model, tokens, config, checkpoint_steps=[2, 4], resume=resume):
            if checkpoint.step == 2 and resume is None and distributed.rank() == 0:
                checkpoint.save(folder)
            distributed.barrier()
        found += [checkpoint.losses, torch.cat([p.detach().flatten() for p in model.parameters()])]
    return found


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


@pytest.fixture(scope="module")
def ranks(forked: Forked, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks of this very file found, per case."""
    folder = tmp_path_factory.mktemp("ranks")
    done = forked.run(__file__, folder, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(ranks: list[dict[str, Any]], name: str) -> None:
    alone = train_case({key: value for key, value in CASES[name].items() if key != "sharding"})
    first, second = (found[name] for found in ranks)
    assert first["losses"] == second["losses"]
    assert torch.equal(first["weights"], second["weights"])
    assert first["tokens_seen"] == alone["tokens_seen"]
    assert first["sizes"] == second["sizes"]
    assert (first["sizes"] != alone["sizes"]) == ("fails" in CASES[name])
    # Muon rounds to bfloat16, where a last digit of a gradient becomes a third digit of an update.
    loose = "muon" in name
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-4 if loose else 1e-5)
    start = torch.cat([p.detach().flatten() for p in tiny_model("llama_tied").parameters()])
    moved = float((alone["weights"] - start).norm())
    assert moved > 0.01
    assert float((first["weights"] - alone["weights"]).norm()) < (1e-2 if loose else 1e-3) * moved


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


@pytest.mark.slow
def test_a_sharded_run_resumes_bitwise_and_its_checkpoint_serves_unsharded_ones(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        losses, weights, again, resumed = found["resumed"]
        assert losses == again
        assert torch.equal(weights, resumed)
    config = TrainConfig(steps=4, batch_size=6, learning_rate=1e-2, precision="float32")
    model = tiny_model(seed=5)
    *_, last = train(model, random_tokens(LENGTHS), config, checkpoint_steps=[4], resume=Path(ranks[0]["folder"]))
    np.testing.assert_allclose(last.losses, losses, rtol=1e-5)


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
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    found["folder"] = str(checkpoint)
    found["resumed"] = resume_sharded(checkpoint)
    torch.save(found, folder / f"{distributed.rank()}.pt")
    distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
