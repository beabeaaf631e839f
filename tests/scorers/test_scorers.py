"""The public names, and signals that tell known levels apart."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

import scorers
from curate.proxy.proxy import Proxy
from curate.recipe import decode
from curate.run import Run
from scorers import (
    ErrorNorm,
    FinalLoss,
    InstructionFollowingDifficulty,
    Length,
    Product,
)


def test_the_public_names() -> None:
    assert scorers.__all__ == sorted(scorers.__all__)
    for name in scorers.__all__:
        kind = getattr(scorers, name)
        assert kind.__module__.startswith("scorers.")
        assert kind.__name__ == name
    assert type(decode({"use": "ErrorNorm"}, "scorer")) is ErrorNorm


# -- known difficulty -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_signals_tell_the_known_levels_of_the_demo_set_apart(tmp_path: Path) -> None:
    """Chance that a row of levels 3 and 4 scores above one of levels 1 and 2; 0.5 says nothing."""
    from curate.word_problems.table import generate

    table = generate(160, seed=1)
    hard = np.array(table["level"]) >= 3
    proxy = Proxy(model="scratch", steps=60, horizon=180, checkpoints=2, learning_rate=3e-3, batch_size=8)
    run = Run(proxy, tmp_path)
    found = {}
    for scorer in (
        ErrorNorm(),
        InstructionFollowingDifficulty(),
        Product(scorers=(FinalLoss(), ErrorNorm())),
        Length(),
    ):
        ranks, easy = rankdata(scorer.score(table, run).difficulty), ~hard
        above = ranks[hard].sum() - hard.sum() * (hard.sum() + 1) / 2
        found[type(scorer).__name__] = above / (hard.sum() * easy.sum())
    least = {"ErrorNorm": 0.8, "InstructionFollowingDifficulty": 0.65, "Product": 0.8}
    assert all(found[name] > at_least for name, at_least in least.items()), found
    assert found["Length"] < 0.5  # it is not length that does it
