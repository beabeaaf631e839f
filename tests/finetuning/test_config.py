"""Settings of a run: lengths, rates, and how they are read and written."""

from __future__ import annotations

from typing import Any

import pytest

from curate.errors import InputError
from curate.finetuning.config import Finetuning, finetuning_from
from curate.finetuning.lora import LoRA
from curate.optimizers import SAM, AdamW, Muon


def test_lengths_and_rates() -> None:
    assert Finetuning(model="m").total_steps(1000) == 94  # three epochs of 31.25
    assert Finetuning(model="m", steps=7).total_steps(1000) == 7
    assert Finetuning(model="m", steps="1/2 epoch", batch_size=10).train_config(1000).horizon_steps == 50
    assert Finetuning(model="m", steps=5, horizon="2 epochs", batch_size=10).train_config(100).horizon_steps == 20
    assert Finetuning(model="m", steps=50, horizon=3).train_config(100).horizon_steps == 50
    rates = [Finetuning(model="m"), Finetuning(model="m", lora=LoRA()), Finetuning(model="scratch")]
    assert [each.peak_learning_rate for each in rates] == [2e-5, 2e-4, 1e-3]
    with pytest.raises(ValueError, match="write a number of steps"):
        Finetuning(model="m", steps="three epochs")
    with pytest.raises(ValueError, match="leave one of them out"):
        Finetuning(model="m", lora=LoRA(), sharding="fsdp")


def test_muon_from_scratch_has_a_rate_of_its_own() -> None:
    def rate(**changes: Any) -> float | None:
        optimizer = Finetuning(**changes).train_config(100).optimizer
        found: float | None = getattr(optimizer, "base", optimizer).learning_rate
        return found

    for given in (Muon(), SAM(base=Muon())):
        assert rate(model="scratch", optimizer=given) == 0.02
        assert rate(model="m", optimizer=given) is None
    assert rate(model="scratch", optimizer=Muon(learning_rate=0.1)) == 0.1
    assert rate(model="scratch") is None
    own, named = (Finetuning(model="scratch", optimizer=Muon(learning_rate=each)) for each in (None, 0.02))
    assert own.decisive() == named.decisive()


def test_settings_are_read_as_they_are_written() -> None:
    found = finetuning_from(
        {
            "model": "m",
            "lora": {"targets": ["q_proj"]},
            "optimizer": {"use": "SAM", "rho": 0.1, "base": {"use": "Muon"}},
        }
    )
    assert found == Finetuning(model="m", lora=LoRA(targets=("q_proj",)), optimizer=SAM(rho=0.1, base=Muon()))
    assert finetuning_from({"model": "m", "optimizer": "adamw"}).optimizer == AdamW()
    assert finetuning_from({"model": "m", "optimizer": {"eps": 1e-6}}).optimizer == AdamW(eps=1e-6)
    with pytest.raises(InputError, match="did you mean 'batch_size'"):
        finetuning_from({"model": "m", "batchsize": 3})
    with pytest.raises(InputError, match="there is no optimizer 'lion'; choose one of AdamW"):
        finetuning_from({"model": "m", "optimizer": "lion"})
