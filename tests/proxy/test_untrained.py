"""A model as it is stands in for a trained proxy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.models.loading import load_model
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.proxy.untrained import Untrained
from curate.run import Run
from tests.fixtures.checkpoints import row_loss
from tests.fixtures.models import write_model
from tests.fixtures.scored import examples_of
from tests.fixtures.tokenizers import byte_level


def test_its_losses_are_those_of_its_weights_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model", byte_level(), seed=1)
    monkeypatch.setattr("curate.training.train", lambda *_, **__: pytest.fail("it was trained"))
    proxy = Proxy(model=str(tmp_path / "model"), max_length=64, precision="float32")
    examples = examples_of(6, completion=[" ".join(["word"] * (k + 1)) for k in range(5)] + [""])
    context = Run(cache=tmp_path / "cache").context
    state = cached_state(examples, proxy, [MeanLoss()], context, kind=Untrained)
    assert state.measured == 0
    trace = measure_checkpoints(examples, proxy, [MeanLoss()], context, kind=Untrained)
    tokens = Untrained(examples, proxy, context).tokenized.tokens
    with torch.no_grad():
        model = load_model(str(tmp_path / "model"))
        expected = [row_loss(model, tokens, row).item() for row in range(5)]
    np.testing.assert_allclose(trace.losses[:5, 0], expected, atol=1e-4)
    assert trace.schedule.steps.tolist() == [0]
    state = cached_state(examples, proxy, [MeanLoss()], context, kind=Untrained)
    assert state.measured == state.shards == 1
