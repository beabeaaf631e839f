"""Measures on a lent checkpoint, and what they cost."""

from pathlib import Path
from typing import Any

import numpy as np

from curate.proxy.measures import MeanLoss, passes_of
from curate.proxy.trace import measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import SAMSharpness
from tests.fixtures.scored import PROXY, additions


def test_a_perturbing_measure_leaves_the_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    examples = additions()
    alone = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path / "a")).of(MeanLoss())
    both = measure_checkpoints(examples, PROXY, [SAMSharpness(rho=5.0), MeanLoss()], Run(PROXY, tmp_path / "b"))
    assert np.array_equal(both.of(MeanLoss()), alone)
    pair = both.of(SAMSharpness(rho=5.0))
    assert np.array_equal(pair[:, :, 0], alone[:, :, 0])
    assert pair[:, -1, 1].mean() > pair[:, -1, 0].mean()


def test_losses_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    """The same checkpoint measures a row alike wherever it stands: only batching differs."""
    examples = additions()
    run = Run(PROXY, tmp_path)
    values = measure_checkpoints(examples, PROXY, [MeanLoss()], run).of(MeanLoss())[:, -1, 0]
    proxy_training = ProxyTraining(examples, PROXY, run.context)
    from curate.models.scoring import LossEngine

    order = np.random.default_rng(0).permutation(40)
    from curate.training.checkpoint import load_weights

    load_weights(proxy_training.model, proxy_training.checkpoint(6))
    shuffled = LossEngine(proxy_training.model, precision="float32").losses(proxy_training.tokenized.tokens.take(order))
    assert np.allclose(shuffled, values[order], atol=1e-4)


def test_a_measure_without_passes_costs_one_forward_pass_per_checkpoint() -> None:
    class Costly:
        def measure(self, checkpoint: Any, examples: Any) -> Any: ...

        def passes(self, rows: int, checkpoints: int) -> float:
            return checkpoints * 3 + 100 / rows

    assert passes_of(MeanLoss(), 50, 4) == 4.0
    assert passes_of(Costly(), 50, 4) == 14.0
