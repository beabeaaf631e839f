from __future__ import annotations

import pytest

import curate.comparison
import curate.evaluation
import curate.finetuning
import curate.models
import curate.storage.cache
import curate.validation.folder
from tests.fixtures.validation import identify_known


@pytest.fixture(autouse=True)
def known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.validation.folder, "identify", identify_known)


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", {**shape, "num_key_value_heads": 2})
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 320)
