"""Reweighters in the training loop: resumed, sharded, short of memory, and leaving the run alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import DataWarning, InputError
from curate.models.forward import allow_packing
from curate.reweighters import (
    ADAPT,
    DGA,
    IRDRO,
    DynamicLoss,
    GivenWeights,
)
from curate.training.loop import train
from curate.training.reweighting import ReweightingState, TrainingRows
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import (
    COLUMNS,
    STATEFUL,
    TOKENS,
    asked,
    config,
    flat,
    naive_embedding,
    rows_of,
    run,
    training,
)

# -- in a run ----------------------------------------------------------------------------------------------------


def test_a_run_is_not_resumed_with_or_without_the_reweighter_it_had(tmp_path: Path) -> None:
    for reweighter, place in ((None, tmp_path / "plain"), (IRDRO(), tmp_path / "weighed")):
        place.mkdir()
        for checkpoint in train(tiny_model(), TOKENS, config(), checkpoint_steps=[2], reweighter=reweighter):
            checkpoint.save(place)
    with pytest.raises(InputError, match="trained with a reweighter; give it"):
        list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], resume=tmp_path / "weighed"))
    with pytest.raises(InputError, match="trained without a reweighter; leave it out"):
        list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], resume=tmp_path / "plain", reweighter=IRDRO()))


@pytest.mark.parametrize("name", ["adapt", "dga"])
def test_a_look_at_the_model_that_does_not_fit_is_taken_again_in_smaller_parts(name: str) -> None:
    found = []
    for failing in (0, 1):
        model, left = tiny_model(), [0]
        records: list[Any] = []

        def hook(*_: Any, model: Any = model, left: list[int] = left) -> None:
            if not model.training and left[0]:
                left[0] -= 1
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.model.layers[1].register_forward_hook(hook)
        given: dict[str, Any] = {"reweighter": STATEFUL[name], "rows": rows_of(**COLUMNS)}
        for last in train(model, TOKENS, config(), checkpoint_steps=[0, 6], log=records.append, **given):
            left[0] = failing if last.step == 0 else 0  # not before: the loop tries out the model, in eval mode
        sizes = [record.micro_batch_tokens for record in records]
        found.append((last.losses, last.reweighting.sums, sizes))
    (losses, sums, sizes), (again, sums_again, smaller) = found
    assert max(smaller) < min(sizes)
    assert np.allclose(losses, again, atol=1e-4)
    assert torch.allclose(sums, sums_again, atol=1e-3)


@pytest.mark.parametrize(
    ("reweighter", "serves"),
    [
        (GivenWeights(column="w"), True),
        (IRDRO(), True),
        (ADAPT(anchors="a", similarity="bm25"), True),
        (ADAPT(anchors="a"), False),
        (DGA(target="t"), False),
    ],
)
def test_sharding_leaves_no_whole_model_to_look_at(reweighter: Any, serves: bool) -> None:
    known = training(tiny_model(), rows=rows_of(**COLUMNS))
    if serves:
        ReweightingState(reweighter, lambda: known, 41, sharded=True)
        return
    with pytest.raises(InputError, match=r"needs the whole model, .* only losses or columns, or leave sharding out"):
        ReweightingState(reweighter, lambda: known, 41, sharded=True)


def test_another_reweighters_memory_is_refused(tmp_path: Path) -> None:
    for checkpoint in train(tiny_model(), TOKENS, config(), checkpoint_steps=[2], reweighter=IRDRO()):
        checkpoint.save(tmp_path)
    for other in (DynamicLoss(), IRDRO(kl_weight=2.0), STATEFUL["dga"]):
        again = {"reweighter": other, "rows": rows_of(**COLUMNS), "resume": tmp_path}
        with pytest.raises(InputError, match="trained with another reweighter, or other settings of it"):
            list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], **again))


def test_looking_at_gradients_leaves_the_run_alone() -> None:
    """With a step size for the mixture so small that nothing moves, the run is the plain one but for rounding."""
    model, plain = tiny_model(), tiny_model()
    still = DGA(target="t", eta=1e-12, refresh_every=1)
    last = run(model, still, rows=rows_of(domain=COLUMNS["domain"]))
    expected = run(plain, None)
    assert np.allclose(last.losses, expected.losses, atol=1e-6)
    assert torch.allclose(flat(model), flat(plain), atol=1e-6)


def test_a_loop_that_does_not_know_its_rows_is_told() -> None:
    live = GivenWeights(column="w").begin(training(tiny_model(), rows=rows_of(w=[1.0] * 41)))
    with pytest.raises(InputError, match="GivenWeights weights rows by their position in the training data"):
        asked(live, [0.5, 0.7])


def test_what_has_no_weights_is_no_reweighter() -> None:
    with pytest.raises(InputError, match=r"a reweighter has a method weights\(batch, outputs\)"):
        run(tiny_model(), object())


@pytest.mark.parametrize("packed", [False, True])
def test_embeddings_weigh_later_states_more(packed: bool) -> None:
    model = tiny_model()
    shared = random_tokens([(30, 5), (30, 9), (30, 2)], seed=1)
    start = shared.ids[:20].copy()
    for row in range(3):  # a prompt prefix that packed rows share
        shared.ids[shared.offsets[row] : shared.offsets[row] + 20] = start
    if packed:
        assert allow_packing(model)
    for tokens in (TOKENS, shared):
        found = training(model, tokens, packed=packed).embeddings(tokens)
        expected = torch.stack([naive_embedding(tiny_model(), tokens, row) for row in range(len(tokens))])
        assert torch.allclose(found, expected, atol=1e-5)


def test_the_earlier_name_of_an_argument_serves_and_warns_once() -> None:
    def tokenize(data: Any, reading: Any) -> Any:
        raise AssertionError("not called")

    with pytest.warns(DataWarning, match="is called tokenize now") as warned:
        rows = TrainingRows({}, tokenise=tokenize)
    assert rows.tokenize is tokenize
    assert len(warned) == 1
    assert replace(rows, source="topic").tokenize is tokenize
    with pytest.raises(InputError, match="same argument"):
        TrainingRows({}, None, tokenize, tokenise=tokenize)
