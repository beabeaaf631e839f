"""Learnability: the loss less that of a reference model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.models.scoring import LossEngine
from curate.proxy.proxy import Proxy
from curate.run import Run
from scorers import (
    Learnability,
)
from tests.fixtures.checkpoints import row_loss
from tests.fixtures.models import tiny_model
from tests.fixtures.scored import examples_of
from tests.fixtures.tokenizers import byte_level


def proxy_of(family: Path) -> Proxy:
    return Proxy(model=str(family / "proxy"), steps=4, checkpoints=2, batch_size=4, max_length=64, precision="float32")


def test_learnability_is_the_loss_less_that_of_the_reference(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.models import load_model
    from curate.proxy.training import ProxyTraining

    examples = examples_of(9, completion=[" ".join(["word"] * (k % 4 + 1)) for k in range(8)] + [""])
    run = Run(proxy_of(family), family / "cache")
    tokens = ProxyTraining(examples, run.proxy, run.context).tokenized.tokens
    asked = []
    real = LossEngine.losses
    monkeypatch.setattr(LossEngine, "losses", lambda self, given: (asked.append(self._model), real(self, given))[1])
    found = Learnability(reference=str(family / "reference")).score(examples, run)
    reference = load_model(str(family / "reference"))
    with torch.no_grad():
        expected = [row_loss(reference, tokens, row).item() for row in range(8)]
    np.testing.assert_allclose(found.features[:8], found.trajectory[:8] - np.array(expected)[:, None], atol=1e-4)
    np.testing.assert_array_equal(found.valid, tokens.valid)
    assert np.isnan(found.difficulty[8])
    assert len({id(model) for model in asked}) == 2
    assert len(asked) == 3  # two checkpoints of the proxy, and the reference once


def test_a_proxy_has_nothing_to_learn_from_itself(family: Path) -> None:
    frozen = proxy_of(family).model_copy(update={"learning_rate": 1e-12})
    found = Learnability(reference=str(family / "proxy")).score(examples_of(6), Run(frozen, family / "cache"))
    np.testing.assert_allclose(found.difficulty, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("other", "another tokenizer than the proxy .*choose a reference of the proxy's family"),
        ("short", r"takes 32 tokens but rows have up to 64; set proxy\.max_length to at most 32"),
        ("nothing", "nothing"),
    ],
)
def test_references_that_cannot_serve(reference: str, says: str, family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reference != "short":  # how long its rows may be is known once it is loaded, the rest before any training
        monkeypatch.setattr("curate.training.train", lambda *_, **__: pytest.fail("the proxy was trained"))
    with pytest.raises(InputError, match=says):
        Learnability(reference=str(family / reference)).score(examples_of(4), Run(proxy_of(family), family / "cache"))


def test_other_weights_under_the_same_name_are_another_reference(family: Path) -> None:
    before = Learnability(reference=str(family / "reference")).measures()
    tiny_model(vocab_size=len(byte_level()), seed=5).save_pretrained(family / "reference")
    assert Learnability(reference=str(family / "reference")).measures() != before
