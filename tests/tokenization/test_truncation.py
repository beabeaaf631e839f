"""What is left of a long row: whole older turns go first, then the left of what is given, then the right of the end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.tokenization import truncation
from curate.tokenization.chat_template import Chat
from curate.tokenization.encoding import encode_rows, tokenize
from curate.tokenization.templates import fixed
from curate.tokenization.tokens import Tokens
from tests.fixtures.tokenizers import CHATML, CHATS, FAMILIES, TOKENIZERS, byte_level, word_level
from tests.fixtures.tokens import row_of
from tests.fixtures.tool_templates import TOOL_TEMPLATES

WORDS = ["The", "answer", "is", "42,", "because", "\n\n", "    ", "é🙂雪", "=" * 9, "xyzzy", "1234567", "a", "<|end|>"]


def random_text(rng: Any, longest: int) -> str:
    words = rng.choice(WORDS[:-1], rng.integers(0, longest))
    return str((" " if rng.random() < 0.7 else "").join(words))


def encoded(rows: list[Any], tokenizer: Any, max_length: int) -> Tokens:
    return encode_rows(rows, tokenizer, max_length)


def is_cut_from_left(prompt: list[int], kept: list[int]) -> bool:
    """Whether what is left is an end of the prompt, before it perhaps a stretch of what stood around it."""
    same = 0
    while same < len(kept) and kept[-same - 1] == prompt[-same - 1]:
        same += 1
    head, before = kept[: len(kept) - same], prompt[: len(prompt) - same]
    return any(before[k : k + len(head)] == head for k in range(len(before) - len(head) + 1))


# -- prompts and completions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["plain", "alpaca"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_cut_row_is_what_cutting_its_tokens_would_leave(name: str, template: str) -> None:
    tokenizer, rng = TOKENIZERS[name](), np.random.default_rng(7)
    pairs = [(random_text(rng, 90), random_text(rng, 60) or "a") for _ in range(40)]
    data = read(pa.table({"prompt": [a for a, _ in pairs], "completion": [b for _, b in pairs]})).examples
    whole = tokenize(data, tokenizer, template=template, max_length=10_000)
    begins = int("bos" in name)
    for max_length in (2, 3, 8, 40, 127, 128, 129, 150, 200, 400):
        cut, least = tokenize(data, tokenizer, template=template, max_length=max_length), min(64, max_length // 2)
        for k in range(len(pairs)):
            ids, supervised = row_of(whole, k)
            first = supervised.index(True)
            prompt, completion = ids[:first], ids[first:]
            shown, counts = row_of(cut, k)
            room = max_length - min(len(prompt), least)
            end = completion if len(completion) <= room else completion[:room]
            given = shown[: len(shown) - len(end)]
            assert shown[len(given) :] == end
            assert counts == [False] * len(given) + [True] * len(end)
            assert len(given) == min(len(prompt), max_length - len(end))
            assert cut.prompt_cut[k] == len(prompt) - len(given)
            assert cut.completion_cut[k] == len(completion) - len(end)
            assert cut.valid[k] == whole.valid[k]
            assert given[:begins] == prompt[:begins]
            if template == "plain":
                assert given[begins:] == prompt[len(prompt) - len(given) + begins :]
            assert is_cut_from_left(prompt[begins:], given[begins:])


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("max_length", [400, 900])
def test_alpacas_headings_stay_around_what_is_left_of_the_question(name: str, max_length: int) -> None:
    tokenizer = TOKENIZERS[name]()
    table = {"instruction": ["What is 12? " * 200], "input": ["30 pears " * 90], "output": ["The answer is 42."]}
    tokens = tokenize(read(pa.table(table)).examples, tokenizer, template="alpaca", max_length=max_length)
    text = tokenizer.decode(tokens.ids[: tokens.lengths[0]].tolist())
    begin, _, rest = text.partition("### Instruction:\n")
    assert begin.endswith("completes the request.\n\n")
    assert "Below is an instruction that describes a task" in begin
    question, _, rest = rest.partition("\n\n### Input:\n")
    assert rest.split("\n\n### Response:")[1].endswith(f"The answer is 42.{tokenizer.eos_token}")
    if max_length == 900:
        assert ("What is 12? " * 200).endswith(question) or question == ""
    assert tokens.prompt_cut[0] > 0 == tokens.completion_cut[0]


def test_wording_that_fills_the_least_of_a_prompt_leaves_some_of_the_question() -> None:
    tokenizer = byte_level()
    heading = [("Heading " * 100, "prompt"), ("question " * 50 + "END", "question"), ("\nTAIL:", "prompt")]
    tokens = encoded([[*heading, ("The answer " * 200, "completion")]], tokenizer, 256)
    ids, supervised = row_of(tokens)
    given = tokenizer.decode(ids[: supervised.index(True)])
    assert len(ids) == 256
    assert supervised.index(True) == 64
    assert given.endswith("END\nTAIL:")


@pytest.mark.parametrize("fits", [True, False])
def test_a_completion_that_fits_beside_the_least_of_a_prompt_is_whole_and_ends(fits: bool) -> None:
    tokenizer = byte_level()
    word = "~"
    completion = word * (512 - 64 - 1 + (not fits))
    tokens = encoded([[("q" * 3000, "question"), (completion, "completion")]], tokenizer, 512)
    ids, supervised = row_of(tokens)
    assert (len(ids), sum(supervised)) == (512, 512 - 64)
    assert (ids[-1] == tokenizer.eos_token_id) == fits
    assert (tokens.completion_cut[0] == 0) == fits
    assert tokens.prompt_cut[0] == 3000 - 64


# -- conversations -------------------------------------------------------------------------------------------------


def talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def long_talk(exchanges: int, *, system: bool = True) -> list[dict[str, str]]:
    turns = [("system", "Be brief.")] if system else []
    for k in range(exchanges):
        turns += [("user", f"What is {k} plus 30? " * 3), ("assistant", f"The answer is {k}. " * 3)]
    return talk(*turns)


@pytest.mark.parametrize("chat", [*CHATS, *FAMILIES, "none"])
@pytest.mark.parametrize("max_length", [300, 700])
def test_the_oldest_exchanges_are_left_out_whole_and_as_few_as_will_do(chat: str, max_length: int) -> None:
    template = CHATS.get(chat) or (FAMILIES[chat][0] if chat in FAMILIES else None)
    tokenizer = byte_level(chat=template)
    turns = long_talk(30, system=chat not in ("gemma", "system in the last question"))
    system = sum(turn["role"] == "system" for turn in turns)
    layout = Chat(tokenizer).layout(turns)
    tokens = encoded([layout], tokenizer, max_length)
    alone = [encoded([Chat(tokenizer).layout([*turns[:system], *turns[k:]])], tokenizer, 100_000) for k in
             range(system, len(turns), 2)]  # fmt: skip
    fitting = next(k for k, each in enumerate(alone) if len(each.ids) <= max_length)
    assert fitting > 0
    assert row_of(tokens) == row_of(alone[fitting])
    cut = len(alone[0].ids) - len(alone[fitting].ids)
    seen_whole = sum(layout.older) <= (max_length + 64) * 16
    assert tokens.prompt_cut[0] == (cut if seen_whole else pytest.approx(cut, rel=0.05))
    assert tokens.completion_cut[0] == 0
    assert tokens.valid[0]


@pytest.mark.parametrize("chat", ["chatml", "looks for thoughts", "qwen3", "llama-3.1", "none"])
def test_then_the_left_of_the_systems_words_goes_and_then_that_of_the_question(chat: str) -> None:
    template = CHATS.get(chat) or (FAMILIES[chat][0] if chat in FAMILIES else None)
    tokenizer = byte_level(chat=template)
    rules, question = "RULES " + "rule " * 100 + "LAST RULE", "ASKED " + "asked " * 200 + "NOW?"
    answer = "<think>why</think>The answer." if chat == "qwen3" else "The answer."
    turns = talk(("system", rules), ("user", "a"), ("assistant", "b"), ("user", question), ("assistant", answer))
    whole = len(encoded([Chat(tokenizer).layout(turns)], tokenizer, 100_000).ids)
    asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])

    def text(max_length: int) -> str:
        tokens = encoded([Chat(tokenizer).layout(turns)], tokenizer, max_length)
        assert len(tokens.ids) <= max_length
        assert tokens.completion_cut[0] == 0
        shown: str = tokenizer.decode(tokens.ids.tolist())
        return shown

    first, second = text(whole - 60), text(asked - 20)
    assert "RULES" not in first
    assert "LAST RULE" in first
    assert question in first
    assert "b<" not in first
    assert "RULE" not in second
    assert "ASKED" not in second
    assert "NOW?" in second
    for shown in (first, second):
        assert "answer." in shown.split("NOW?")[1]
        if template:  # the marks of every turn that is left are there
            assert shown.count("<|im_start|>") == shown.count("<|im_end|>") == 3
        assert shown.endswith("<|im_end|>" if template else "<|end|>")


def test_a_long_reasoning_in_an_early_turn_goes_with_its_turn() -> None:
    tokenizer = byte_level(chat=FAMILIES["qwen3"][0])
    thought = "<think>" + "and so " * 5000 + "</think>"
    turns = talk(("user", "a"), ("assistant", f"{thought}b"), ("user", "c"), ("assistant", "<think>d</think>e"))
    tokens = encoded([Chat(tokenizer).layout(turns)], tokenizer, 200)
    assert "and so" not in tokenizer.decode(tokens.ids.tolist())
    assert not tokens.truncated[0]  # the template had dropped it, and both exchanges fit


def test_where_the_template_refuses_a_shorter_conversation_as_few_turns_as_it_takes_are_kept() -> None:
    chat = "{% if messages | length < 9 %}{{ raise_exception('too short') }}{% endif %}" + CHATML
    tokenizer = byte_level(chat=chat)
    tokens = encoded([Chat(tokenizer).layout(long_talk(10))], tokenizer, 200)
    assert tokens.valid[0]
    assert len(tokens.ids) == 200
    assert tokenizer.decode(tokens.ids.tolist()).count("<|im_start|>") >= 7


def test_the_last_question_of_a_conversation_that_has_to_stay_whole_is_cut_before_its_answer() -> None:
    chat = "{% if messages | length < 4 %}{{ raise_exception('too short') }}{% endif %}" + CHATML
    tokenizer = byte_level(chat=chat)
    turns = talk(("user", "Who?"), ("assistant", "You."), ("user", "What is 12 plus 30? " * 99), ("assistant", "42."))
    tokens = encoded([Chat(tokenizer).layout(turns)], tokenizer, 200)
    text = tokenizer.decode(tokens.ids.tolist())
    assert "Who?" in text
    assert text.endswith("plus 30? <|im_end|>\n<|im_start|>assistant\n42.<|im_end|>")
    assert tokens.completion_cut[0] == 0


@pytest.mark.parametrize("last", ["<think>nothing else</think>", " \n "])
def test_the_last_exchange_that_is_kept_has_an_answer(last: str) -> None:
    tokenizer = word_level(chat=FAMILIES["deepseek-r1"][0])
    turns = [*long_talk(20), *talk(("user", "The system asks."), ("assistant", last))]
    tokens = encoded([Chat(tokenizer).layout(turns)], tokenizer, 40)
    assert tokens.valid[0]
    assert len(tokens.ids) <= 40


# -- tools, calls and what surrounds a row ---------------------------------------------------------------------------

LOOK = "abcdefghi"


def look(k: int) -> dict[str, Any]:
    call = {"id": LOOK, "type": "function", "function": {"name": "look", "arguments": {"place": f"shelf {k}"}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def seen(k: int, times: int = 4) -> dict[str, Any]:
    return {"role": "tool", "content": f"there are {k} pears " * times + "END", "tool_call_id": LOOK, "name": "look"}


def tool(k: int) -> dict[str, Any]:
    properties = {f"p{k}": {"type": "string", "description": "which number is remaining " * 3}}
    parameters = {"type": "object", "properties": properties, "required": [f"p{k}"]}
    return {
        "type": "function",
        "function": {"name": f"tool_{k}", "description": "Counts pears. " * 4, "parameters": parameters},
    }


@pytest.mark.parametrize("template", [*TOOL_TEMPLATES, "none"])
@pytest.mark.parametrize("max_length", [1100, 1900])
def test_of_many_calls_the_oldest_rounds_are_left_out_whole_and_as_few_as_will_do(
    template: str, max_length: int
) -> None:
    chat = Chat(byte_level(chat=TOOL_TEMPLATES.get(template)))
    earlier = talk(("user", "Who are you? " * 9), ("assistant", "I count pears. " * 9))
    asked, answer = talk(("user", "How many pears are there?")), talk(("assistant", "There are 66 pears."))
    rounds = [[look(k), seen(k)] for k in range(20)]

    def left(dropped: int) -> list[Any]:
        return [*asked, *(turn for each in rounds[dropped:] for turn in each), *answer]

    tokens = encoded([chat.layout([*earlier, *left(0)])], chat.tokenizer, max_length)
    alone = (encoded([chat.layout(left(dropped))], chat.tokenizer, 100_000) for dropped in range(len(rounds)))
    fitting, expected = next((dropped, each) for dropped, each in enumerate(alone) if len(each.ids) <= max_length)
    assert fitting > 0
    assert row_of(tokens) == row_of(expected)
    assert tokens.completion_cut[0] == 0 < tokens.prompt_cut[0]


@pytest.mark.parametrize("template", ["qwen", "llama", "mistral", "none"])
def test_of_the_last_round_the_left_of_what_the_tools_say_goes_first(template: str) -> None:
    chat = Chat(byte_level(chat=TOOL_TEMPLATES.get(template)))
    asked, answer = talk(("user", "How many pears are there?")), talk(("assistant", "There are 66 pears."))
    turns = [*asked, look(1), seen(1), look(2), seen(2, 400), *answer]
    whole = encoded([chat.layout([*asked, look(2), seen(2, 400), *answer])], chat.tokenizer, 100_000)
    tokens = encoded([chat.layout(turns)], chat.tokenizer, 600)
    ids, supervised = row_of(tokens)
    all_ids, all_supervised = row_of(whole)
    begin = next(k for k, (a, b) in enumerate(zip(ids, all_ids, strict=False)) if a != b)
    assert len(ids) == 600
    assert ids == all_ids[:begin] + all_ids[len(all_ids) - 600 + begin :]  # one stretch is missing
    assert [i for i, s in zip(ids, supervised, strict=True) if s] == [
        i for i, s in zip(all_ids, all_supervised, strict=True) if s
    ]
    missing = chat.tokenizer.decode(all_ids[begin : len(all_ids) - 600 + begin])
    assert missing in "there are 2 pears " * 400
    assert "pears END" in chat.tokenizer.decode(ids)


@pytest.mark.parametrize("template", ["qwen", "llama", "mistral", "harmony", "none"])
@pytest.mark.parametrize("call_last", [True, False])
def test_thirty_tools_are_cut_from_the_left_before_anything_is_that_was_asked_or_answered(
    template: str, call_last: bool
) -> None:
    chat = Chat(byte_level(chat=TOOL_TEMPLATES.get(template)))
    turns = [*talk(("user", "How many pears are there? " * 6)), look(1)]
    turns += [] if call_last else [seen(1), *talk(("assistant", "There are 66 pears."))]
    tools = [tool(k) for k in range(30)]
    whole = encoded([chat.layout(turns, tools)], chat.tokenizer, 100_000)
    without = encoded([chat.layout(turns, tools[:1])], chat.tokenizer, 100_000)
    max_length = len(without.ids) + 20
    assert max_length < len(whole.ids)
    ids, supervised = row_of(encoded([chat.layout(turns, tools)], chat.tokenizer, max_length))
    all_ids, all_supervised = row_of(whole)
    gap = len(all_ids) - max_length
    begin = next(k for k, (a, b) in enumerate(zip(ids, all_ids, strict=False)) if a != b)
    assert ids == all_ids[:begin] + all_ids[begin + gap :]  # one stretch is missing
    assert supervised == all_supervised[:begin] + all_supervised[begin + gap :]
    assert sum(supervised) == sum(all_supervised)
    kept = chat.tokenizer.decode(ids)
    assert ("How many pears are there? " * 6).strip() in kept
    assert "tool_29" in kept
    assert "tool_0" not in kept


@pytest.mark.parametrize("template", ["plain", "alpaca", "chat"])
@pytest.mark.parametrize("role", ["system", "context"])
def test_a_long_system_or_context_column_is_cut_from_the_left_before_the_question(role: str, template: str) -> None:
    tokenizer, question, answer = byte_level(), "How many pears are there? " * 4 + "NOW?", "There are 66 pears."
    table = pa.table({role: ["FIRST " + "there are pears " * 300 + "LAST"], "question": [question], "answer": [answer]})
    examples = read(table).examples
    assert role in examples.columns
    whole = tokenize(examples, tokenizer, template=template, max_length=100_000)
    tokens = tokenize(examples, tokenizer, template=template, max_length=400)
    ids, supervised = row_of(tokens)
    all_ids, all_supervised = row_of(whole)
    text = tokenizer.decode(ids)
    assert len(ids) == 400
    assert [i for i, s in zip(ids, supervised, strict=True) if s] == [
        i for i, s in zip(all_ids, all_supervised, strict=True) if s
    ]
    assert question in text
    assert "pears LAST" in text
    assert "FIRST" not in text
    assert tokens.prompt_cut[0] == len(all_ids) - 400


def test_of_a_pair_with_a_long_prompt_both_answers_are_whole() -> None:
    tokenizer = byte_level()
    table = {
        "prompt": ["How many pears? " * 900 + "NOW?"],
        "chosen": ["There are 66."],
        "rejected": ["Nobody knows it."],
    }
    examples = read(pa.table(table)).examples
    for each, answer in ((examples, "There are 66."), (examples.rejected(), "Nobody knows it.")):
        tokens = tokenize(each, tokenizer, template="plain", max_length=200)
        ids, supervised = row_of(tokens)
        learned = tokenizer.decode([i for i, s in zip(ids, supervised, strict=True) if s])
        assert len(ids) == 200
        assert learned == answer + tokenizer.eos_token
        assert "pears? NOW?" in tokenizer.decode(ids)
        assert tokens.completion_cut[0] == 0


# -- long texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TOKENIZERS, "word level"])
@pytest.mark.parametrize("around", ["alpaca", "chat"])
def test_cutting_before_tokenizing_changes_nothing(name: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = {**TOKENIZERS, "word level": word_level}[name]()
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(6):
        question, answer = random_text(rng, 900), random_text(rng, 900) + "."
        if around == "alpaca":
            rows.append(fixed([("Q: ", "prompt"), (question, "question"), ("\nA:", "prompt"), (answer, "completion")]))
        else:
            earlier = talk(("user", random_text(rng, 400)), ("assistant", random_text(rng, 400) + "."))
            system = talk(("system", random_text(rng, 400) + "x"))
            last = talk(("user", question), ("assistant", answer))
            rows.append(Chat(tokenizer).layout([*system, *earlier, *last]))
    for max_length in (24, 130, 300):
        with monkeypatch.context() as patch:
            patch.setattr(truncation, "CHARACTERS_PER_TOKEN", 1_000_000)
            whole = encoded(rows, tokenizer, max_length)
        for characters in (1, 4, 16):
            with monkeypatch.context() as patch:
                patch.setattr(truncation, "CHARACTERS_PER_TOKEN", characters)
                early = encoded(rows, tokenizer, max_length)
            for field in ("ids", "supervised", "offsets", "valid"):
                np.testing.assert_array_equal(getattr(early, field), getattr(whole, field), err_msg=field)
            for field in ("prompt_cut", "completion_cut"):
                np.testing.assert_array_equal(getattr(early, field) > 0, getattr(whole, field) > 0)


SIZE = 20_000_000
LONG = {
    "one word": "a" * SIZE,
    "words": "The answer " * (SIZE // 11),
    "chinese": "雪é" * (SIZE // 2),
    "emoji": "🙂" * (SIZE // 4),
    "spaces": " " * SIZE,
    "lines": "\n" * SIZE,
    "digits": "0123456789" * (SIZE // 10),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG)
def test_twenty_megabytes_take_no_time_wherever_they_stand(text: str) -> None:
    long, tokenizer = LONG[text], byte_level(chat=CHATML)
    rows = {
        "prompt": fixed([("Q: ", "prompt"), (long, "question"), ("\nA:", "prompt"), ("Yes.", "completion")]),
        "completion": fixed([("Q", "question"), (long, "completion")]),
        "text": fixed([(long, "completion")]),
        "question of a chat": Chat(tokenizer).layout(talk(("user", long), ("assistant", "Yes."))),
        "system of a chat": Chat(tokenizer).layout(talk(("system", long), ("user", "a"), ("assistant", "Yes."))),
        "early answer": Chat(tokenizer).layout(
            talk(("user", "a"), ("assistant", long + "."), ("user", "b"), ("assistant", "Yes."))
        ),
    }
    for place, row in rows.items():
        started = time.process_time()
        tokens = encoded([row], tokenizer, 512)
        assert time.process_time() - started < 2, place  # about 0.3 s; 29 s and more where all is tokenized
        assert tokens.valid[0], place
        assert tokens.truncated[0], place
        assert (tokens.completion_cut[0] > 0) == (place in ("completion", "text"))


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG)
def test_a_tokenizer_that_makes_one_token_of_it_takes_no_time_either(text: str) -> None:
    tokenizer = word_level()
    started = time.process_time()
    tokens = encoded([[(LONG[text] + " What is", "question"), ("The answer", "completion")]], tokenizer, 512)
    assert time.process_time() - started < 2
    short = encoded([[(LONG[text][:1000] + " What is", "question"), ("The answer", "completion")]], tokenizer, 512)
    if text != "words":
        np.testing.assert_array_equal(tokens.ids, short.ids)


@pytest.mark.slow
@pytest.mark.parametrize("chat", ["chatml", "looks for thoughts", "qwen3", "mistral", "none"])
def test_a_hundred_thousand_turns_take_no_time(chat: str) -> None:
    template = CHATS.get(chat) or (FAMILIES[chat][0] if chat in FAMILIES else None)
    tokenizer = byte_level(chat=template)
    for answer in ("The answer is 42.", "<think>b</think>c"):
        turns = talk(*[("user", "What is 12?"), ("assistant", answer)] * 50_000)
        started = time.process_time()
        tokens = encoded([Chat(tokenizer).layout(turns)], tokenizer, 512)
        assert time.process_time() - started < 2
        assert 400 < len(tokens.ids) <= 512
        assert tokens.prompt_cut[0] > 100_000
