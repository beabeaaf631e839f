from pathlib import Path

import pytest

from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import byte_level


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Folders of two models with one tokenizer, `proxy` and `reference`, one of few positions and one with another."""
    tokenizer = byte_level()
    for name, seed, changes in (("proxy", 0, {}), ("reference", 1, {}), ("short", 1, {"max_position_embeddings": 32})):
        write_model(tmp_path / name, tokenizer, seed=seed, **changes)
    other = byte_level()
    other.add_tokens(["<more>"])
    write_model(tmp_path / "other", other)
    return tmp_path
