from __future__ import annotations

import pytest

import curate.models.scratch
import curate.validation.folder
from tests.fixtures.validation import Trained, identify_known, load_known


@pytest.fixture(autouse=True)
def known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.validation.folder, "identify", identify_known)


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", {**shape, "num_key_value_heads": 2})
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 320)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr("curate.validation.runs.finetune", fake.finetune)
    monkeypatch.setattr("curate.validation.runs.evaluate", fake.evaluate)
    monkeypatch.setattr("curate.estimate.load_tokenizer", load_known)
    return fake
