"""EarlyOutput: projected means over completion tokens at the last early checkpoint."""

from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.predictions import projection
from curate.proxy.proxy import Proxy, Schedule
from curate.seeds import derive_seed
from scorers import (
    EarlyOutput,
)
from tests.fixtures.checkpoints import checkpoint_of, given_run
from tests.fixtures.models import tiny_model
from tests.fixtures.scored import ROWS, TOKENS, VALID, examples_of

# -- early output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("output", ["hidden", "distribution"])
def test_early_outputs_are_projected_means_over_completion_tokens(
    output: Any, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole:
        monkeypatch.setattr("curate.models.logit_map", lambda _model: None)
    model = tiny_model("gemma3")
    scorer = EarlyOutput(output=output, dimensions=5)
    checkpoint = checkpoint_of(model, TOKENS)
    if whole and output == "hidden":
        with pytest.raises(InputError, match=r"choose EarlyOutput\(output='distribution'\)"):
            scorer.measure(checkpoint, ROWS)
        return
    found = scorer.measure(checkpoint, ROWS)
    width = 32 if output == "hidden" else 211
    matrix = projection(width, 5, derive_seed(7, "early output", output), "cpu")
    with torch.no_grad():
        for row in VALID:
            low, high = TOKENS.offsets[row : row + 2]
            ids = torch.from_numpy(TOKENS.ids[low:high].astype(np.int64))[None]
            where = torch.from_numpy(TOKENS.supervised[low:high])[1:]
            out = model(input_ids=ids, output_hidden_states=True)
            each = out.hidden_states[-1] if output == "hidden" else out.logits.softmax(-1)
            expected = (each[0, :-1][where].mean(0) @ matrix).numpy()
            np.testing.assert_allclose(found[row], expected, atol=1e-4, rtol=1e-3)
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), ~TOKENS.valid)


def test_outputs_are_taken_at_the_last_early_checkpoint_and_nowhere_else() -> None:
    scorer = EarlyOutput(dimensions=3)
    checkpoint = checkpoint_of(tiny_model(), TOKENS)
    assert np.isfinite(scorer.measure(checkpoint, ROWS)[VALID]).all()  # step 2 of a schedule of 40
    checkpoint.proxy_training.schedule = Schedule(np.array([2, 3]), 40, 10.0)
    assert np.isnan(scorer.measure(checkpoint, ROWS)).all()  # 3 is early too
    outputs = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    losses = np.arange(8.0).reshape(2, 4, 1)
    examples = examples_of(2)
    run = given_run((scorer, outputs), (MeanLoss(), losses))
    assert run.trace(examples, []).schedule.horizon_steps == 400
    found = scorer.score(examples, run)  # steps 10, 20, 30, 40: all within a tenth of 400
    np.testing.assert_array_equal(found.features, outputs[:, 3])
    np.testing.assert_array_equal(found.difficulty, losses[:, 3, 0])
    early = EarlyOutput(dimensions=3, within=0.05)
    run = given_run((early, outputs), (MeanLoss(), losses))
    np.testing.assert_array_equal(early.score(examples, run).difficulty, losses[:, 1, 0])


def test_a_schedule_without_an_early_checkpoint_is_refused_and_the_remedy_serves() -> None:
    proxy = Proxy(model="scratch", checkpoints=2)
    scorer = EarlyOutput()
    with pytest.raises(
        InputError, match=r"within 10% .* at 17% \(step 150 of 900\); set proxy\.checkpoints to at least 4"
    ):
        scorer.check_schedule(proxy.schedule(1000))
    scorer.check_schedule(proxy.model_copy(update={"checkpoints": 4}).schedule(1000))
    for rows in (200, 20_000, 1_000_000):  # the shipped recipe's proxy, at any size
        scorer.check_schedule(Proxy(steps="1/4 epoch", checkpoints=4).schedule(rows))
