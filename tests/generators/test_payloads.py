"""What a server answers is read: texts, counts, reasons, errors in any form, and what is not a completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.generators.payloads import (
    LONGEST_MESSAGE,
    Answer,
    Served,
    decode_completion,
    error_message,
    names_model,
    wants_other_cap,
)
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request
from curate.generators.room import concerns_length, fills_context
from tests.fixtures.completions import Pulled, ask, connect, failing, texts
from tests.fixtures.raw_answers import HEAD, Noted, sending
from tests.fixtures.server import FakeServer, Fault

CALLS: Any = [
    {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 0.10000000000000000001}'}},
    {"id": "y", "type": "function", "function": {"name": "now", "arguments": {}}},
]
WRITTEN = [
    '<tool_call>\n{"name": "add", "arguments": {"a": 0.10000000000000000001}}\n</tool_call>',
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, Completion("", "stop", 3, 4)),
        ({"choices": [{"text": "a", "finish_reason": "tool_calls"}]}, Completion("a", "stop", 3, 4)),
        (
            {"choices": [{"message": {"content": "So:", "tool_calls": CALLS}, "finish_reason": "tool_calls"}]},
            Completion(f"So:\n{WRITTEN[0]}\n{WRITTEN[1]}", "stop", 3, 4),
        ),
        (
            {"choices": [{"message": {"function_call": CALLS[0]["function"]}, "finish_reason": "function_call"}]},
            Completion(WRITTEN[0], "stop", 3, 4),
        ),
        (
            {"choices": [{"text": "a", "finish_reason": "content_filter"}]},
            Completion("", "refused", 3, 4, refusal="the server's content filter withheld it"),
        ),
        (
            {"choices": [{"text": "Sorry \ud800, \udc00 \U0001f40d", "finish_reason": "stop"}]},
            Completion("Sorry \ufffd, \ufffd \U0001f40d", "stop", 3, 4),
        ),
    ],
)
def test_unusual_completions(answer: dict[str, Any], expected: Completion) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    content = json.dumps({**answer, "usage": usage}).encode()
    assert decode_completion(content, 50) == Answer(expected, None, True)


UNSAID = [
    *["null", "[]", "3", '"many"', "{}", '{"prompt_tokens": 2}'],
    *[f'{{"completion_tokens": {n}}}' for n in ("null", "-1", "1.5", "1e400", "true", '"7"', "2147483649", "9" * 9000)],
    '{"completion_tokens": 0}',  # though there is text
]


@pytest.mark.parametrize("usage", UNSAID, ids=range(len(UNSAID)))
def test_tokens_that_a_server_does_not_count_are_charged_at_their_most_and_it_is_said_once(usage: str) -> None:
    content = f'{{"choices": [{{"text": "a", "finish_reason": "stop"}}], "usage": {usage}}}'
    queue = Charged(5)
    with FakeServer(faults=lambda body, _: Fault("raw", message=content)) as server:
        connect(server).serve(queue)
    assert [each.completion_tokens for each in queue.completions] == [50] * 5
    assert {each.prompt_tokens for each in queue.completions} == {2 if "prompt_tokens" in usage else 0}
    told = [note for note in queue.notes if "max_tokens is assumed" in note]
    assert told == ["the server does not say how many tokens it used; max_tokens is assumed"]


def test_no_usage_at_all_is_charged_too() -> None:
    answer = decode_completion(b'{"choices": [{"text": "", "finish_reason": "length"}]}', 7)
    assert answer == Answer(Completion("", "length", 0, 7), None, False)
    assert decode_completion(
        b'{"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 0}}', 7
    ) == (Answer(Completion("", "stop", 0, 0), None, True))


@pytest.mark.parametrize(
    ("asked_for", "served", "answered", "fine"),
    [
        ("gpt-4o", "gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4o", "gpt-4o", "OpenAI/gpt-4o", True),
        ("/models/small", "small", "/models/small/", True),
        ("gpt-4o", "gpt-4o", "gpt-4", False),
        ("gpt-4", "gpt-4", "gpt-4o", False),
        ("m", "m", "other", False),
    ],
)
def test_an_answer_speaks_for_the_model_that_was_asked_or_a_version_of_it(
    asked_for: str, served: str, answered: str, fine: bool
) -> None:
    assert names_model(answered, Served(served), asked_for) == fine


def test_an_answer_of_another_model_is_not_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    whole: dict[str, Any] = {"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    for name in ("an/other\x1b[1m model", "fake-model-2025", None, 3, ""):
        content = json.dumps({**whole, "model": name})
        with FakeServer(faults=lambda body, _: Fault("raw", message=content)) as server:  # noqa: B023
            if name == "an/other\x1b[1m model":
                message = failing(InputError, connect(server), [ask(0)])
                assert "answered as an/other model, not as fake-model" in message
                assert server.paths["/v1/completions"] == 1
            else:
                assert texts(complete(connect(server), [ask(0)], store)) == ["a"]
            assert store.count() == (0 if name == "an/other\x1b[1m model" else 1)


@pytest.mark.parametrize(
    "content",
    [
        *["", "[]", "null", "{}", '{"choices": []}', '{"choices": [[]]}', '{"choices": 3}', "[" * 100_000],
        '{"choices": [{"text": "a"}]}',
        '{"choices": [{"text": 1, "finish_reason": "stop"}]}',
        '{"choices": [{"text": "a", "finish_reason": "abort"}]}',
        '{"choices": [{"text": "a", "finish_reason": ["stop"]}]}',
    ],
    ids=range(12),
)
def test_what_is_no_completion_is_a_value_error(content: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_completion(content.encode(), 50)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"error": {"message": "no\\u001b[31m way\\nat all"}}', "no way at all"),
        (b'{"detail": [{"msg": "field required"}]}', '[{"msg": "field required"}]'),
        (b'{"error": "plainly"}', "plainly"),
        (b"<html>\xff" + b"x" * 1000, None),
        (b"", "no reason given"),
        (b"[" * 100_000, None),
    ],
)
def test_messages_of_servers_become_one_line(content: bytes, expected: str | None) -> None:
    message = error_message(content)
    assert message.isprintable()
    assert len(message) <= LONGEST_MESSAGE
    assert expected in (None, message)


def test_a_prompt_that_is_too_long_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    requests = [ask(0), ask(1, "long " * 100), ask(2)]
    with FakeServer(context=200) as server:
        found = complete(connect(server), requests, store)
    assert [each.finish_reason for each in found] == ["stop", "refused", "stop"]
    assert "maximum context length is 200" in str(found[1].refusal)
    assert store.count() == 2


def test_more_tokens_than_the_context_has_are_not_asked_for() -> None:
    with FakeServer(context=100) as server:
        complete(connect(server), [ask(0, max_tokens=4000)])
    assert server.requests[0]["max_tokens"] == 100


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 5000 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The decoder prompt (length 4000) is longer than the maximum model length of 2048.",
        "context_length_exceeded",
        "max_tokens must be at least 1, got -3.",
    ],
)
def test_wordings_of_a_prompt_that_is_too_long(message: str) -> None:
    assert fills_context(400, message)
    assert not fills_context(400, "max_tokens=5000 cannot be greater than max_model_len=2048")


def test_a_server_that_knows_max_tokens_by_its_newer_name_is_asked_again_with_that() -> None:
    refusal = Fault(
        *("status", 400),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    )
    with FakeServer(faults=lambda body, _: refusal if "max_tokens" in body else None) as server:
        prompts = [ask(k, [{"role": "user", "content": f"question {k}"}]) for k in range(20)]
        found = complete(connect(server, connections=1, template="chat"), prompts)
    assert [each.finish_reason for each in found] == ["stop"] * 20
    assert len(server.requests) == 21, "one refusal is enough"
    assert {each["max_completion_tokens"] for each in server.requests[1:]} == {50}


def test_a_cap_that_is_too_large_by_either_name_is_a_matter_of_length() -> None:
    both = "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096"
    assert not wants_other_cap(400, both)
    assert concerns_length(400, both)
    assert concerns_length(400, "maxOutputTokens must be less than 8193")


class Charged(Pulled):
    """Keeps the completions."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.waiting = [ask(k + 1000) for k in range(count)]
        self.completions: list[Completion] = []

    def done(self, request: Request, completion: Completion) -> None:
        super().done(request, completion)
        self.completions.append(completion)


# -- texts that are longer than they may be ----------------------------------------------------------------------------


def whole(content: bytes, *headers: str) -> Fault:
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return sending(HEAD + lines + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


def ignoring(text: str, tokens: int | None, **usage: Any) -> bytes:
    counted = {} if tokens is None else {"usage": {"prompt_tokens": 3, "completion_tokens": tokens, **usage}}
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], **counted}).encode()


def test_texts_far_beyond_max_tokens_are_cut_to_their_share_and_told_once() -> None:
    content = ignoring("one two three 12345 " * 500, 2500)
    queue = Noted(4)
    with FakeServer(faults=lambda body, _: whole(content)) as server:
        connect(server).serve(queue)
    for each in queue.completions.values():
        assert each.finish_reason == "length"
        assert each.completion_tokens == 2500, "that is what was paid for"
        assert 180 < len(each.text) <= 200
    assert queue.notes == ["the server ignores max_tokens; overlong completions are truncated"]


@settings(max_examples=300, deadline=None)
@given(st.text("ab 1234567890.,é\n", max_size=3000), st.integers(1, 50), st.none() | st.integers(1, 3000))
def test_a_text_is_cut_only_where_it_must_be_and_never_inside_a_number(
    text: str, most: int, tokens: int | None
) -> None:
    found = decode_completion(ignoring(text, tokens), most)
    kept = found.completion.text
    assert text.startswith(kept)
    assert len(kept) <= 128 * most
    assert found.cut == (kept != text) == (found.completion.finish_reason == "length")
    if len(text) <= 128 * most and (tokens is None or tokens <= 2 * most):
        assert kept == text
    if found.cut and kept:
        assert not kept[-1].isdigit()


def test_reasoning_is_no_part_of_the_text() -> None:
    hidden = {"completion_tokens_details": {"reasoning_tokens": 990}}
    assert decode_completion(ignoring("It is 42.", 1000, **hidden), 20).completion.text == "It is 42."
    for odd in (None, [], {"reasoning_tokens": "many"}, {"reasoning_tokens": -1}):
        assert (
            decode_completion(ignoring("It is 42.", 10, completion_tokens_details=odd), 20).completion.text
            == "It is 42."
        )


def test_the_code_of_an_error_is_part_of_its_message() -> None:
    """Some servers say in the code alone that a prompt is too long."""
    told = error_message(b'{"error": {"message": "Bad request", "code": "context_length_exceeded"}}')
    assert told == "Bad request (context_length_exceeded)"
    assert concerns_length(400, told)
    assert error_message(b'{"error": {"message": "no", "code": 400}}') == "no"
