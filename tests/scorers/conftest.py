from pathlib import Path

import pytest

from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import byte_level


# -- learnability ---------------------------------------------------------------------------------------------------
@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Folders of two models with one tokenizer, `proxy` and `reference`, one of few positions and one with another."""
    tokenizer = byte_level()
    for name, seed, changes in (("proxy", 0, {}), ("reference", 1, {}), ("short", 1, {"max_position_embeddings": 32})):
        tiny_model(vocab_size=len(tokenizer), seed=seed, **changes).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    other = byte_level()
    other.add_tokens(["<more>"])
    tiny_model(vocab_size=len(other)).save_pretrained(tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    return tmp_path
