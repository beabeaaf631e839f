"""Reweighters are components, and are known by name."""

from __future__ import annotations

import pytest

from curate.errors import InputError
from curate.reweighters import (
    DGA,
    IRDRO,
    reweighter_from,
)
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import run


def test_what_has_no_weights_is_no_reweighter() -> None:
    with pytest.raises(InputError, match=r"a reweighter has a method weights\(batch, outputs\)"):
        run(tiny_model(), object())


def test_reweighters_by_name() -> None:
    assert reweighter_from("irdro", "reweighter") == IRDRO()
    found = reweighter_from({"use": "DGA", "target": "t.parquet", "eta": 0.5}, "reweighter")
    assert found == DGA(target="t.parquet", eta=0.5)
    with pytest.raises(InputError, match="there is no reweighter 'drift'; choose one of ADAPT, DGA, DynamicLoss"):
        reweighter_from("drift", "reweighter")
