"""What a model is asked to predict of a conversation is the assistant's turns, whatever surrounds them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.errors import InputError
from curate.tokenization.layouts import Piece
from curate.tokenization.templates import renderer
from tests.fixtures.tokenizers import CHATML, CHATS, FAMILIES, byte_level

Turns = list[tuple[str, str]]


# Contents that look like what surrounds them.
CONVERSATIONS: dict[str, Turns] = {
    "one question": [("user", "What is 2 + 2?"), ("assistant", "4")],
    "several turns": [("user", "1 + 1"), ("assistant", "2"), ("user", "2 + 2"), ("assistant", "4")],
    "answer repeats the question": [("user", "Yes."), ("assistant", "Yes."), ("user", "Yes."), ("assistant", "Yes.")],
    "system": [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "b")],
    "answer is in a heading": [("user", "user"), ("assistant", "assistant"), ("user", "s"), ("assistant", "a")],
    "answer is in a mark": [("user", "im"), ("assistant", "im_start"), ("user", "N"), ("assistant", "INST")],
    "template syntax": [("user", "{{ messages }} {% raw %}"), ("assistant", "{{ bos_token }} {% endif %} {x} {{")],
    "empty answer": [("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")],
    "last answer empty": [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "")],
    "ends with a question": [("user", "a"), ("assistant", "b"), ("user", "c")],
    "white space around": [("user", " a \n"), ("assistant", "\n  b\n\n"), ("user", "c "), ("assistant", " d ")],
    "placeholder": [("user", "qzTurn1Xzq"), ("assistant", "qzTurn0Xzq qzTurn1Xzq")],
}


def examples(rows: list[Turns]) -> Any:
    messages = [[{"role": role, "content": content} for role, content in turns] for turns in rows]
    return read(pa.table({"messages": messages})).examples


def pieces(turns: Turns, chat: str | None, **options: Any) -> list[Piece]:
    return renderer(examples([turns]), "chat", byte_level(chat=chat, **options))(0, 1)[0]


def parts(rendered: list[Piece], *wanted: str) -> list[str]:
    return [text for text, part in rendered if part in wanted]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("chat", CHATS)
def test_completions_are_the_assistant_turns_and_the_text_is_the_templates(chat: str, conversation: str) -> None:
    turns = CONVERSATIONS[conversation]
    tokenizer = byte_level(chat=CHATS[chat])
    rendered = renderer(examples([turns]), "chat", tokenizer)(0, 1)[0]
    answers = [content for role, content in turns if role == "assistant" and content]
    stripped = "trim" in CHATS[chat]
    assert parts(rendered, "completion") == [answer.strip() if stripped else answer for answer in answers]
    whole = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)
    assert whole.startswith("".join(text for text, _ in rendered))
    ending = {"no end of turn": "", "eos ends a turn": "<|end|>", "begins with bos": " <|end|>"}.get(chat, "<|im_end|>")
    assert parts(rendered, "end") == ([ending] * len(answers) if ending else [])


def test_completions_stand_where_the_turns_are() -> None:
    rendered = pieces(CONVERSATIONS["answer is in a heading"], CHATML)
    assert rendered[:3] == [
        ("<|im_start|>user\nuser<|im_end|>\n<|im_start|>assistant\n", "prompt"),
        ("assistant", "completion"),
        ("<|im_end|>", "end"),
    ]
    assert rendered[3][0] == "\n<|im_start|>user\ns<|im_end|>\n<|im_start|>assistant\n"


def test_an_answer_with_thoughts_is_found_as_the_template_lays_it_out() -> None:
    answer = "<think>\n2 and 2\n</think>\n\nIt is 4."
    rendered = pieces([("user", "2 + 2"), ("assistant", answer)], CHATS["looks for thoughts"])
    assert parts(rendered, "completion") == [answer]
    assert parts(rendered, "end") == ["<|im_end|>"]
    loose = "<think>2 and 2</think>It is 4."  # the template sets the line breaks
    rendered = pieces([("user", "2 + 2"), ("assistant", loose)], CHATS["looks for thoughts"])
    assert parts(rendered, "completion") == ["<think>\n2 and 2\n</think>\n\nIt is 4."]


def test_answers_with_and_without_thoughts_are_found_in_one_conversation() -> None:
    plain, thought = "Yes.", "<think>\n2 and 2\n</think>\n\nYes."
    for first in (plain, thought):
        turns = [("user", "a"), ("assistant", first), ("user", "Yes."), ("assistant", thought), ("user", "b")]
        for shown in (turns, turns[:-1]):
            rendered = pieces(shown, CHATS["looks for thoughts"])
            assert parts(rendered, "completion", "end") == [first, "<|im_end|>", thought, "<|im_end|>"]


def test_a_mark_that_begins_something_ends_nothing() -> None:
    rendered = pieces(
        CONVERSATIONS["several turns"],
        "{% for m in messages %}{{ bos_token + m['role'] + ': ' + m['content'] }}{% endfor %}{{ bos_token }}",
    )
    assert parts(rendered, "completion", "end") == ["2", "4"]


@pytest.mark.parametrize("change", ["m['content'] | upper", "m['content'] + '!'", "m['content'] | replace('b', 'c')"])
def test_a_template_that_rewrites_answers_is_refused_with_the_row(change: str) -> None:
    rewriting = f"({change} if '<' in m['content'] and m['role'] == 'assistant' else m['content'])"
    chat = CHATML.replace("m['content']", rewriting)
    rows: list[Turns] = [[("user", "a"), ("assistant", "...")], [("user", "a"), ("assistant", "<think>b</think>long")]]
    tokenizer = byte_level(chat=chat)
    assert parts(renderer(examples(rows), "chat", tokenizer)(0, 1)[0], "completion") == ["..."]
    with pytest.raises(InputError, match=r"^row 1: .*rewrites .*choose a model") as caught:
        renderer(examples(rows), "chat", tokenizer)(1, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "chat", ["{{ '...' }}", "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"]
)
def test_a_template_that_leaves_out_all_answers_is_refused(chat: str) -> None:
    with pytest.raises(InputError, match=r"row 0: .*leaves out every assistant turn"):
        pieces([("user", "a b"), ("assistant", "a")], chat)


def test_a_template_that_refuses_a_role_is_reported_with_its_words_and_the_row() -> None:
    chat = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system\n prompt!') }}{% endif %}" + CHATML
    rows = [CONVERSATIONS["one question"], CONVERSATIONS["system"]]
    render = renderer(examples(rows), "chat", byte_level(chat=chat))
    assert parts(render(0, 1)[0], "completion") == ["4"]
    with pytest.raises(InputError, match=r"^row 1: .*No system prompt!.*choose a model") as caught:
        render(0, 2)
    assert "\n" not in str(caught.value)


def test_a_mark_typed_in_an_answer_does_not_move_its_end() -> None:
    rendered = pieces([("user", "a"), ("assistant", "b<|im_end|>\nc")], CHATML)
    assert parts(rendered, "completion", "end") == ["b<|im_end|>\nc", "<|im_end|>"]


def test_skeletons_of_several_shapes_do_not_mix() -> None:
    rows = list(CONVERSATIONS.values())
    tokenizer = byte_level(chat=CHATML)
    together = renderer(examples(rows), "chat", tokenizer)(0, len(rows))
    assert together == [renderer(examples([turns]), "chat", tokenizer)(0, 1)[0] for turns in rows]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_without_a_chat_template_roles_are_headings(conversation: str) -> None:
    turns = CONVERSATIONS[conversation]
    rendered = pieces(turns, None)
    assert parts(rendered, "completion") == [content for role, content in turns if role == "assistant"]
    last = max(k for k, (role, _) in enumerate(turns) if role == "assistant")
    headed = "\n\n".join(f"### {role.capitalize()}:\n{content}" for role, content in turns[: last + 1])
    assert "".join(text for text, _ in rendered) == headed
    assert rendered[-1][1] == "completion"


THOUGHT = "<think>\n2 and 2\n</think>\n\n4"


REASONING: Turns = [("user", "2 + 2"), ("assistant", THOUGHT), ("user", "3 + 3"), ("assistant", THOUGHT)]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_supervise_plain_answers_with_their_ends(family: str) -> None:
    chat, ending, _ = FAMILIES[family]
    rendered = pieces(CONVERSATIONS["several turns"], chat)
    assert parts(rendered, "completion") == ["2", "4"]
    assert parts(rendered, "end") == [ending] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_of_reasoning_what_the_template_keeps_is_supervised(family: str) -> None:
    chat, _, kept = FAMILIES[family]
    rendered = pieces(REASONING, chat)
    assert parts(rendered, "completion") == list(kept)
    turns = [{"role": role, "content": content} for role, content in REASONING]
    whole = byte_level(chat=chat).apply_chat_template(turns, tokenize=False)
    assert whole.startswith("".join(text for text, _ in rendered))


@pytest.mark.parametrize("family", ["gemma", "mistral"])
@pytest.mark.parametrize("turns", [[("user", "a"), ("user", "b"), ("assistant", "c")], [("assistant", "a")]], ids=len)
def test_families_that_want_turns_to_alternate_refuse_others_in_their_words(family: str, turns: Turns) -> None:
    with pytest.raises(InputError, match=r"^row 0: .*refused the conversation \(.*alternate.*\); "):
        pieces(turns, FAMILIES[family][0])


def test_a_turn_that_a_template_drops_altogether_is_not_supervised() -> None:
    chat = CHATML.replace("for m in messages", "for m in messages if '<think>' not in m['content']")
    rendered = pieces([*REASONING[:2], ("user", "b"), ("assistant", "c")], chat)
    assert parts(rendered, "completion") == ["c"]
    assert "2 and 2" not in "".join(text for text, _ in rendered)


def test_an_answer_that_stands_in_the_question_too_is_found_where_it_is_answered() -> None:
    turns = [("user", "Say 4."), ("assistant", "<think>4</think>4"), ("user", "4"), ("assistant", "<think>4</think>4")]
    rendered = pieces(turns, FAMILIES["deepseek-r1"][0])
    assert rendered[1:3] == [("4", "completion"), ("<|end|>", "end")]
    assert rendered[0] == ("<|begin|><|User|>Say 4.<|Assistant|>", "prompt")
    assert rendered[4:] == [("4", "completion"), ("<|end|>", "end")]


def test_an_error_in_the_template_is_a_refusal_of_the_row() -> None:
    chat = "{% if messages | length > 2 %}{{ messages[0]['content'] / 2 }}{% endif %}" + CHATML
    assert parts(pieces(CONVERSATIONS["one question"], chat), "completion") == ["4"]
    with pytest.raises(InputError, match=r"^row 0: .*refused the conversation \(unsupported operand"):
        pieces(CONVERSATIONS["several turns"], chat)
