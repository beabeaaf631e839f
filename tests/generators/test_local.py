"""Sampling in this process: each request as if it were alone, greedy as transformers has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.checks import check_component
from curate.errors import InputError
from curate.generators import Transformers
from curate.generators.decoding import sample
from curate.generators.request_queue import complete
from curate.generators.requests import Completion, Generator, Prompt, Request, Sampling
from tests.fixtures.completions import Watched
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import CHATML, byte_level

TOKENIZER = byte_level(vocabulary=300)
CHAT = byte_level(vocabulary=300, chat=CHATML)
PROMPTS = ["What is 12 plus 30?", "A user asks", "Yes. No. " * 9, "7", "the assistant answers; the system says how"]


def model_of(family: str = "llama", **changes: Any) -> Any:
    return tiny_model(family, **{"vocab_size": len(TOKENIZER), **changes})


def ask(prompt: Prompt, index: int = 0, **sampling: Any) -> Request:
    return Request(prompt, Sampling(**{"max_tokens": 12, **sampling}), 5, index)


def drawn(model: Any, requests: list[Request], **more: Any) -> list[Completion]:
    return sample(model, more.pop("tokenizer", TOKENIZER), requests, **more)


# -- greedy ------------------------------------------------------------------------------------------------------------


# -- chance ------------------------------------------------------------------------------------------------------------


# -- ends --------------------------------------------------------------------------------------------------------------


# -- templates ---------------------------------------------------------------------------------------------------------

MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12?"})


# -- a model in training -----------------------------------------------------------------------------------------------


# -- the generator -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model_of().save_pretrained(path)
    CHAT.save_pretrained(path)
    return path


def test_it_is_a_generator_that_answers_as_sample_does(folder: Path) -> None:
    generator = Transformers(model=str(folder), batch_size=3, device="cpu", precision="float32")
    assert isinstance(generator, Generator)
    check_component(generator)
    requests = [ask(prompt, k) for prompt in [*PROMPTS, MESSAGES] for k in range(2)]
    assert complete(generator, requests) == drawn(model_of(), requests, tokenizer=CHAT)


def test_each_completion_is_handed_back_as_soon_as_it_has_ended(folder: Path) -> None:
    queue = Watched([ask("What is", max_tokens=most) for most in (30, 2, 10, 1)])
    Transformers(model=str(folder), batch_size=4, device="cpu", precision="float32").serve(queue)
    assert queue.finished == ["1", "2", "10", "30"]
    assert not +queue.open


def test_nothing_is_loaded_where_nothing_is_asked() -> None:
    Transformers(model="does/not-exist").serve(Watched([]))


def test_the_identity_is_that_of_the_files_and_the_template(folder: Path) -> None:
    one = Transformers(model=str(folder))
    assert one.identity() == Transformers(model=str(folder), batch_size=2, device="cpu").identity()
    assert one.identity() != Transformers(model=str(folder), template="plain").identity()


def test_bfloat16_answers_too(folder: Path) -> None:
    (found,) = complete(Transformers(model=str(folder), device="cpu", precision="bfloat16"), [ask("What is")])
    assert found.completion_tokens > 0


def test_a_device_that_is_not_there_is_the_users_turn(folder: Path) -> None:
    with pytest.raises(InputError, match=r"device .* cannot be used"):
        complete(Transformers(model=str(folder), device="cuda:77"), [ask("What is")])
