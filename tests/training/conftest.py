from __future__ import annotations

import pytest

from curate.tokenization.tokens import Tokens
from tests.fixtures.models import random_tokens
from tests.fixtures.training import LENGTHS


@pytest.fixture
def tokens() -> Tokens:
    return random_tokens(LENGTHS, invalid=[3, 17])
