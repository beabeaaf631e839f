"""Sharded training without processes to share with."""

from __future__ import annotations

import pytest

from curate.errors import InputError
from curate.tokenization.tokens import Tokens
from tests.fixtures.models import tiny_model
from tests.fixtures.training import config, run


def test_sharding_needs_several_processes(tokens: Tokens) -> None:
    with pytest.raises(InputError, match='sharding="fsdp" needs several processes; start them with torchrun'):
        run(tiny_model(), tokens, config(sharding="fsdp"))
