"""A context smaller than prompt and max_tokens together: what is left is asked for, as by the model in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.generators import openai_client as client
from curate.generators.decoding import sample
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request, Sampling
from curate.generators.room import Room, StatedLimits, concerns_length, fills_context, stated_limits
from tests.fixtures.completions import connect
from tests.fixtures.models import tiny_model
from tests.fixtures.server import FakeServer, asked, request_key
from tests.fixtures.tokenizers import byte_level

LONG = "Please reduce the length of the messages or completion."


IS = "This model's maximum context length is"


def vllm(context: int, prompt: int, most: int) -> str:
    return (
        f"{IS} {context} tokens. However, you requested {most} output tokens and your "
        f"prompt contains {prompt} input tokens, for a total of {prompt + most} tokens. {LONG}"
    )


def vllm_cut(context: int, prompt: int, most: int) -> str:
    """It stops counting where the prompt is certainly too long: one token more than fits."""
    least = max(1, context - most + 1)
    return (
        f"{IS} {context} tokens. However, you requested {most} output tokens and your "
        f"prompt contains at least {least} input tokens, for a total of at least {least + most} tokens. {LONG}"
    )


def vllm_first(context: int, prompt: int, most: int) -> str:
    if most > context:
        return f"max_tokens={most} cannot be greater than max_model_len=max_total_tokens={context}."
    return vllm_cut(context, prompt, most)


def vllm_characters(context: int, prompt: int, most: int) -> str:
    return (
        f"{IS} {context} tokens. However, you requested {most} output tokens and your "
        f"prompt contains {9 * prompt} characters (more than {7 * prompt} characters, which is the upper bound for "
        f"{max(0, context - most)} input tokens). {LONG}"
    )


def vllm_older(context: int, prompt: int, most: int) -> str:
    return (
        f"'max_tokens' or 'max_completion_tokens' is too large: {most}. {IS} {context} "
        f"tokens and your request has {prompt} input tokens ({most} > {context} - {prompt}). None"
    )


def openai(context: int, prompt: int, most: int) -> str:
    parts = f"{prompt - 1} in the messages, 1 in the functions, and {most} in the completion"
    return f"{IS} {context} tokens. However, you requested {prompt + most} tokens ({parts}). {LONG}"


def openai_older(context: int, prompt: int, most: int) -> str:
    parts = f"{prompt} in your prompt; {most} for the completion"
    return f"{IS} {context} tokens, however you requested {prompt + most} tokens ({parts}). {LONG}"


def sglang(context: int, prompt: int, most: int) -> str:
    return (
        f"Requested token count exceeds the model's maximum context length of {context} tokens. You requested a total "
        f"of {prompt + most} tokens: {prompt} tokens from the input messages and {most} tokens for the completion."
    )


def tgi(context: int, prompt: int, most: int) -> str:
    return (
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context}. Given: {prompt} `inputs` "
        f"tokens and {most} `max_new_tokens`"
    )


def anthropic(context: int, prompt: int, most: int) -> str:
    return f"input length and `max_tokens` exceed context limit: {prompt} + {most} > {context}, decrease input length"


def wrapped(context: int, prompt: int, most: int) -> str:
    return f"litellm.ContextWindowExceededError: {'OpenAIException - ' * 20}{openai(context, prompt, most)} Group=m"


def in_general(context: int, prompt: int, most: int) -> str:
    return "the request exceeds the context window of this model"


def said_of_tensorrt(context: int, prompt: int, most: int) -> str:
    return f"Prompt length ({prompt}) plus max_new_tokens ({most}) exceeds max_seq_len ({context})"


def said_of_lmdeploy(context: int, prompt: int, most: int) -> str:
    return f"The session_len of the model is {context}, but the request needs {prompt + most}; it exceeds it"


def said_in_chinese(context: int, prompt: int, most: int) -> str:
    return f"\u8f93\u5165\u957f\u5ea6\u8d85\u8fc7 {context}"


def said_of_a_sequence(context: int, prompt: int, most: int) -> str:
    return f"sequence too long: {prompt + most} > {context}"


def said_of_a_sum(context: int, prompt: int, most: int) -> str:
    return f"Prompt length {prompt} + max_tokens {most} is greater than max_seq_len {context}"


UNSEEN = [said_of_tensorrt, said_of_lmdeploy, said_in_chinese, said_of_a_sequence, said_of_a_sum]


EXACT = [vllm, vllm_older, openai, openai_older, sglang, tgi, anthropic, wrapped]


VAGUE = [vllm_cut, vllm_first, vllm_characters]


Wording = Callable[[int, int, int], str]


@pytest.mark.parametrize("wording", EXACT, ids=lambda wording: wording.__name__)
def test_refusals_that_tell_both_lengths_are_understood(wording: Wording) -> None:
    for context, prompt, most in [(512, 28, 512), (4096, 4000, 97), (2048, 2047, 10), (40, 39, 500), (9, 2, 9)]:
        assert stated_limits(wording(context, prompt, most), most) == StatedLimits(context, prompt)


@pytest.mark.parametrize("wording", VAGUE, ids=lambda wording: wording.__name__)
def test_what_a_refusal_does_not_tell_is_not_made_up(wording: Wording) -> None:
    assert stated_limits(wording(512, 28, 500), 500) == StatedLimits(512, None)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("max_tokens is too large: 5000. This model supports at most 4096 completion tokens, whereas you", 4096),
        ("max_tokens=5000 cannot be greater than max_model_len=2048", 2048),
        ("max_tokens: 5000 > 4096, which is the maximum allowed number of output tokens for m-4-5000", 4096),
        ("<400> InvalidParameter: Range of max_tokens should be [1, 4096]", 4096),
        ("`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens`", 4096),
    ],
)
def test_the_most_that_a_completion_may_have_is_asked_for(message: str, told: int) -> None:
    assert concerns_length(400, message)
    room = Room(5000)
    assert room.refused(message)
    assert room.asked == room.cap == told


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The decoder prompt (length 4000) is longer than the maximum model length of 2048.",
        "request (600 tokens) exceeds the available context size (512 tokens), try increasing it",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "Input validation error: `inputs` must have less than 511 tokens. Given: 600",
        "The input (600 tokens) is longer than the model's context length (512 tokens).",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        "Prompt contains 600 tokens and 0 draft tokens, too large for model with 512 maximum context length",
        "Either prompt or prompt_embeds must be provided and non-empty.",
        "The decoder prompt cannot be empty",
        "context_length_exceeded",
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_once_one_token_is_too_many(message: str) -> None:
    room, asks = Room(512), 1
    assert concerns_length(400, message)
    assert fills_context(400, message)
    while room.refused(message):
        asks += 1
    assert room.asked == 1
    assert asks <= 2


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "top_p must be in (0, 1]",
        "The model `m` does not exist",
        "no reason given",
    ],
)
def test_what_is_no_matter_of_length_is_none(message: str) -> None:
    assert not concerns_length(400, message)


@settings(max_examples=1000, deadline=None)
@given(
    st.integers(1, 5000),
    st.floats(0, 1.2),
    st.floats(0, 2),
    st.sampled_from([*EXACT, *VAGUE, in_general]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_whatever_a_server_says_the_room_is_found_in_few_requests(
    context: int, of_context: float, of_most: float, wording: Wording, listed: bool, counted: bool, kept: int
) -> None:
    """kept: tokens that the server keeps for itself beyond what it says."""
    prompt, most = 1 + int(context * of_context), 1 + int(context * of_most)
    room, asks, drawn = Room(most), 0, 0
    left = context - prompt - kept
    while True:
        room.within(context if listed else None)
        asks += 1
        if room.asked > left:
            if room.refused(wording(context, prompt, room.asked)):
                continue
            break
        drawn += room.asked
        if room.accepted(Completion("", "length", prompt if counted else 0, room.asked)):
            break
    assert asks <= 4 + 2 * math.log2(most)
    if left < 1:
        assert (room.asked, drawn) == (1, 0)
        return
    assert room.asked <= min(left, most)
    assert drawn <= room.asked + 1, "tokens were paid for and thrown away"
    assert room.cap == (None if room.asked == most else room.asked)
    told = wording in EXACT or (counted and (listed or wording is not in_general))
    if left >= most:
        assert asks == 1 or (listed and context < most)
        assert room.asked == most
    elif told and kept == 0:
        assert room.asked == left
    else:
        assert room.asked >= min(left // 2, left - kept)


# -- servers -----------------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def limited(context: int, wording: Wording, status: int = 400) -> Callable[[int, int], tuple[int, str] | None]:
    """vLLM's rule."""
    return lambda prompt, most: (status, wording(context, prompt, most)) if prompt + most > context else None


def ask(prompt: Any, index: int = 0, **sampling: Any) -> Request:
    return Request(prompt, Sampling(**{"max_tokens": 500, **sampling}), 3, index)


def letters(body: dict[str, Any]) -> tuple[str, str]:
    return "x" * body["max_tokens"], "length"


MESSAGES = ({"role": "user", "content": "What is 2 plus 2?"},)


@pytest.mark.parametrize("wording", [*EXACT, *VAGUE], ids=lambda wording: wording.__name__)
@pytest.mark.parametrize("prompt", ["What is 2 plus 2?", MESSAGES], ids=["text", "chat"])
@pytest.mark.parametrize("status", [400, 422])
def test_max_tokens_is_a_cap_and_samples_differ_by_their_seeds_alone(
    wording: Wording, prompt: Any, status: int, tmp_path: Path
) -> None:
    requests = [ask(prompt, k, temperature=1.0) for k in range(3)]
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(letters, limit=limited(100, wording, status)) as server:
        found = complete(connect(server), requests, store)
        assert {each.completion_tokens for each in found} == {100 - 17} == {each.cap for each in found}
        seeds = {body["seed"] for body in server.requests}
        assert len(seeds) == 3
        assert max(server.answered.values()) == 1
        before = len(server.requests)
        assert complete(connect(server), requests, store) == found, "a cap is not part of what is asked"
        assert len(server.requests) == before
    assert [store.get(each.key(connect(server).identity())) for each in requests] == found


@pytest.mark.parametrize("wording", UNSEEN, ids=lambda wording: wording.__name__)
def test_words_that_nobody_knows_are_tried_with_fewer_tokens(wording: Wording) -> None:
    """And a number in them that was about something else leads to no completion of a few tokens."""
    prompts = ["a" * length for length in (1, 10, 50, 100, 400)]
    with FakeServer(letters, limit=limited(100, wording)) as server:
        found = complete(connect(server), [ask(prompt) for prompt in prompts])
    assert [each.finish_reason for each in found] == ["length"] * 3 + ["refused"] * 2
    for each, prompt in zip(found[:3], prompts, strict=False):
        assert each.cap is not None
        assert (100 - len(prompt)) // 2 <= each.cap <= 100 - len(prompt)
    assert len(server.requests) < 10 * len(prompts)


def test_only_a_prompt_that_fills_the_context_is_refused(tmp_path: Path) -> None:
    prompts = ["a" * length for length in (1, 50, 98, 99, 100, 101, 5000)]
    for wording in [*EXACT, *VAGUE, in_general]:
        with FakeServer(letters, limit=limited(100, wording)) as server:
            found = complete(connect(server), [ask(prompt) for prompt in prompts])
        assert [each.finish_reason for each in found] == ["length"] * 4 + ["refused"] * 3, wording
        assert all(each.refusal for each in found[4:])
        if wording is not in_general:
            assert [each.cap for each in found] == [99, 50, 2, 1, None, None, None]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_proxy_may_pass_a_refusal_on_as_its_own_failure(status: int) -> None:
    with FakeServer(letters, limit=limited(100, wrapped, status)) as server:
        found = complete(connect(server), [ask("a" * 40), ask("a" * 200)])
    assert [each.finish_reason for each in found] == ["length", "refused"]
    assert found[0].cap == 60
    assert not concerns_length(
        status, "Requested input tokens exceed the limit of 6000 per minute, max_tokens must be less"
    )


def test_a_body_that_a_proxy_finds_too_large_is_refused_and_the_others_are_answered() -> None:
    with FakeServer(limit=lambda prompt, most: (413, "") if prompt > 100 else None) as server:
        found = complete(connect(server), [ask("a"), ask("a" * 200)])
    assert [each.finish_reason for each in found] == ["stop", "refused"]


def test_a_server_that_refuses_any_number_of_tokens_is_an_error_and_no_refusal_of_a_prompt() -> None:
    with (
        FakeServer(limit=lambda prompt, most: (400, f"max_tokens must be at most 0, not {most}")) as server,
        pytest.raises(InputError, match=r"does not accept a request \(status 400\): max_tokens must be at most 0"),
    ):
        complete(connect(server), [ask("a")])
    assert len(server.requests) < 20


def test_what_a_server_does_not_count_is_charged_at_the_cap() -> None:
    with FakeServer(letters, limit=limited(100, vllm), usage=False) as server:
        (found,) = complete(connect(server), [ask("a" * 40)])
    assert (found.completion_tokens, found.cap) == (60, 60)


def test_a_server_and_this_process_draw_the_same_from_the_same_model() -> None:
    tokenizer = byte_level(vocabulary=300)
    model = tiny_model(vocab_size=len(tokenizer), max_position_embeddings=64)

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    def answer(body: dict[str, Any]) -> tuple[str, str]:
        (drawn,) = sample(model, tokenizer, [ask(asked(body), temperature=0, max_tokens=body["max_tokens"])])
        tokens[request_key(body)] = drawn.completion_tokens
        return drawn.text, drawn.finish_reason

    tokens: dict[str, int] = {}
    prompts = ["What is 2 plus 2?", "Yes. " * 8, "No. " * 30, "a", *["go on " * k for k in (2, 7, 8, 9)]]
    requests = [ask(prompt, temperature=0, max_tokens=40) for prompt in prompts]
    here = sample(model, tokenizer, requests)
    assert {each.finish_reason for each in here} >= {"length", "refused"}
    assert len({each.cap for each in here}) > 4
    for wording in (vllm_cut, tgi):
        with FakeServer(answer, limit=limited(64, wording), context=None, count=count) as server:
            there = complete(connect(server), requests)
        kept = [(each.text, each.finish_reason, each.cap) for each in here]
        assert [(each.text, each.finish_reason, each.cap) for each in there] == kept
