"""Sampling in this process: each request as if it were alone, greedy as transformers has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curate.errors import InputError
from curate.generators.decoding import decode, draw, sample
from curate.generators.requests import Completion, Prompt, Request, Sampling
from tests.fixtures.completions import Watched
from tests.fixtures.models import FAMILIES, tiny_model
from tests.fixtures.tokenizers import byte_level, metaspace

TOKENIZER = byte_level(vocabulary=300)


PROMPTS = ["What is 12 plus 30?", "A user asks", "Yes. No. " * 9, "7", "the assistant answers; the system says how"]


def model_of(family: str = "llama", **changes: Any) -> Any:
    return tiny_model(family, **{"vocab_size": len(TOKENIZER), **changes})


def ask(prompt: Prompt, index: int = 0, **sampling: Any) -> Request:
    return Request(prompt, Sampling(**{"max_tokens": 12, **sampling}), 5, index)


def drawn(model: Any, requests: list[Request], **more: Any) -> list[Completion]:
    return sample(model, more.pop("tokenizer", TOKENIZER), requests, **more)


def reference(model: Any, prompt: str, new: int) -> list[int]:
    """Greedy tokens as `generate` has them, alone, the end of the text included."""
    ids = TOKENIZER(prompt, return_tensors="pt")["input_ids"]
    out = model.generate(ids, do_sample=False, max_new_tokens=new, attention_mask=torch.ones_like(ids), pad_token_id=0)
    return list(out[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_greedy_is_what_generate_gives_for_each_row_alone(family: str) -> None:
    model = model_of(family)
    ids: dict[int, list[int]] = {}
    found = drawn(model, [ask(prompt, temperature=0, max_tokens=30) for prompt in PROMPTS])
    for k, (prompt, completion) in enumerate(zip(PROMPTS, found, strict=True)):
        ids[k] = reference(model, prompt, 30)
        ended = ids[k][-1] == 2
        assert completion.completion_tokens == len(ids[k])
        assert completion.prompt_tokens == len(TOKENIZER(prompt)["input_ids"])
        assert completion.finish_reason == ("stop" if ended else "length")
        text = TOKENIZER.decode(ids[k], skip_special_tokens=True)
        assert completion.text.rstrip("\ufffd") == text.rstrip("\ufffd")
    assert len({tuple(each) for each in ids.values()}) > 1


def test_the_end_may_be_one_of_several_tokens_and_is_not_part_of_the_text() -> None:
    model = model_of()
    first = reference(model, PROMPTS[0], 8)
    model.generation_config.eos_token_id = [2, first[3]]
    (found,) = drawn(model, [ask(PROMPTS[0], temperature=0)])
    end = first.index(first[3])
    assert found.finish_reason == "stop"
    assert found.completion_tokens == end + 1
    assert found.text == TOKENIZER.decode(first[:end])


def test_a_row_does_not_depend_on_its_neighbors() -> None:
    model = model_of()
    settings = [{"temperature": 0}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"top_k": 40, "top_p": 0.5}]
    requests = [ask(prompt, k, **more, max_tokens=5 + 7 * k) for prompt in PROMPTS for k, more in enumerate(settings)]
    together = drawn(model, requests, batch_size=25)
    assert together == drawn(model, requests, batch_size=4)
    assert together == [drawn(model, [request])[0] for request in requests]


def test_seeds_and_indices_give_other_samples_and_the_same_give_the_same() -> None:
    model = model_of()
    requests = [ask("What is", k) for k in range(8)] + [Request("What is", Sampling(max_tokens=12), 6)]
    found = [each.text for each in drawn(model, requests)]
    assert len(set(found)) == 9
    assert [each.text for each in drawn(model, requests)] == found


def test_tokens_come_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])
    n = 20_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
        tokens = draw(
            logits.expand(n, 5),
            torch.full((n,), temperature, dtype=torch.float64),
            torch.full((n,), top_k),
            torch.full((n,), top_p, dtype=torch.float64),
            uniform,
        )
        return torch.bincount(tokens, minlength=5) / n

    torch.testing.assert_close(shares(), logits[0].softmax(0), atol=0.015, rtol=0)
    torch.testing.assert_close(shares(temperature=0.5), (2 * logits[0]).softmax(0), atol=0.015, rtol=0)
    two = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0]).where(torch.tensor([0, 1, 1, 0, 0]).bool(), -torch.inf).softmax(0)
    torch.testing.assert_close(shares(top_k=2), two, atol=0.015, rtol=0)
    # 0.54 and 0.20 are the two largest; 0.7 needs both, 0.5 the first alone. Of the top two, the first has 0.73.
    torch.testing.assert_close(shares(top_p=0.7), two, atol=0.015, rtol=0)
    assert shares(top_p=0.5)[2] == shares(temperature=1e-4)[2] == shares(temperature=0)[2] == 1
    assert shares(top_k=2, top_p=0.72)[2] == 1
    torch.testing.assert_close(shares(top_k=2, top_p=0.74), two, atol=0.015, rtol=0)


def test_the_ends_of_chance_lead_to_tokens_that_can_be() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(2, 5)
    ones, ends = torch.ones(2, dtype=torch.float64), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for top_p in (1.0, 0.99):
        assert draw(logits, ones, torch.tensor([0, 0]), top_p * ones, ends).tolist() == [1, 3]


def test_stop_texts_end_a_completion_and_are_not_part_of_it() -> None:
    model = model_of()
    (whole,) = drawn(model, [ask(PROMPTS[0], max_tokens=40)])
    for low, width in ((3, 1), (10, 4), (6, 2)):
        stop = whole.text[low : low + width]
        first = min(whole.text.index(stop), whole.text.index(whole.text[20:22]))
        (found,) = drawn(model, [ask(PROMPTS[0], max_tokens=40, stop=("never there", stop, whole.text[20:22]))])
        assert found.text == whole.text[:first]
        assert found.finish_reason == "stop"
        assert found.completion_tokens < whole.completion_tokens


def test_the_context_ends_a_completion_and_refuses_a_prompt() -> None:
    model = model_of(max_position_embeddings=32)
    length = len(TOKENIZER(PROMPTS[0])["input_ids"])
    fits, long, empty = drawn(model, [ask(PROMPTS[0], max_tokens=500), ask("Yes. " * 40), ask("")])
    assert fits.finish_reason == "length"
    assert fits.completion_tokens == 32 - length
    assert (long.finish_reason, long.text) == ("refused", "")
    assert "the model's context 32" in str(long.refusal)
    assert "empty" in str(empty.refusal)


def test_a_first_word_keeps_its_space() -> None:
    tokenizer = metaspace()
    model = tiny_model(vocab_size=len(tokenizer), seed=1)
    prompt = "The answer is"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    out = model.generate(ids, do_sample=False, max_new_tokens=12, attention_mask=torch.ones_like(ids), pad_token_id=0)
    (found,) = drawn(model, [ask(prompt, temperature=0)], tokenizer=tokenizer)
    whole = tokenizer.decode(out[0], skip_special_tokens=True).rstrip("\ufffd")
    assert prompt + found.text == whole


def test_half_a_pair_from_a_tokenizer_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(vocabulary=300)
    monkeypatch.setattr(tokenizer, "decode", lambda ids, **_: "a\ud800b" * len(ids))
    whole, stopped = (ask("What is", max_tokens=3, stop=stop) for stop in ((), ("b",)))
    found = [each.text for each in drawn(model_of(), [whole, stopped], tokenizer=tokenizer)]
    assert found == ["a\ufffdb" * 3, "a\ufffd"]


def test_numbers_that_are_none_are_an_error() -> None:
    model = model_of()
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = torch.nan
    with pytest.raises(InputError, match="logits are not numbers"):
        drawn(model, [ask("a")])


def test_a_model_in_training_is_left_as_it_was() -> None:
    model = model_of()
    model.train()
    model.model.layers[0].eval()
    model.config.use_cache = False
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    state = torch.get_rng_state()
    found = drawn(model, [ask(prompt) for prompt in PROMPTS])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], each) for name, each in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    assert drawn(model, [ask(prompt) for prompt in PROMPTS]) == found
    model.train()
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()  # still trainable


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_places_that_are_free_are_taken_before_all_have_ended_and_no_answer_changes(family: str) -> None:
    model = model_of(family)
    most = [3, 30, 4, 30, 9, 2, 17, 30, 1, 12, 30, 5]
    requests = [ask(PROMPTS[k % len(PROMPTS)], k, max_tokens=most[k], top_k=k % 3 * 10) for k in range(12)]
    queue = Watched(list(requests))
    under_way: list[int] = []
    take = queue.take

    def watched(free: int) -> list[Request]:
        under_way.append(sum(queue.open.values()))
        return take(free)

    queue.take = watched  # type: ignore[method-assign]
    completions: dict[Request, Completion] = {}
    done = queue.done
    queue.done = lambda request, completion: (  # type: ignore[method-assign]
        completions.update({request: completion}),
        done(request, completion),
    )[1]
    with torch.no_grad():
        decode(model, TOKENIZER, queue, "plain", 4)
    assert [completions[request] for request in requests] == [drawn(model, [request])[0] for request in requests]
    windowed = family in ("gemma2", "gemma3", "mistral")  # their caches forget, and cannot be joined
    assert any(0 < count < 4 for count in under_way) is not windowed
    assert max(under_way) <= 3
