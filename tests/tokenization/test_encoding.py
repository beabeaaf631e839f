"""Tokens of whole datasets against a row-by-row oracle, and the promises about their ends."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.checks import small_examples
from curate.data.readers import read
from curate.tokenization import encoding as tokenization
from curate.tokenization import truncation
from curate.tokenization.encoding import tokenize
from curate.tokenization.tokens import Tokens
from tests.fixtures.tokenizers import CHATML, CHATS, TOKENIZERS, byte_level, word_level
from tests.fixtures.tokens import equal_tokens, row_of

NAMES = list(TOKENIZERS)


def pairs(rows: list[tuple[str, str]]) -> Any:
    return read(pa.table({"prompt": [a for a, _ in rows], "completion": [b for _, b in rows]})).examples


def chats(rows: list[list[tuple[str, str]]]) -> Any:
    messages = [[{"role": role, "content": content} for role, content in turns] for turns in rows]
    return read(pa.table({"messages": messages})).examples


def supervised_text(tokenizer: Any, tokens: Tokens, k: int) -> str:
    ids, supervised = row_of(tokens, k)
    text: str = tokenizer.decode([number for number, counts in zip(ids, supervised, strict=True) if counts])
    return text


def plain_encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def same_rows(a: Tokens, b: Tokens) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ids", "supervised", "offsets", "valid"))


ROWS = [
    ("What is 12 plus 30?", "The answer is 42."),
    ("{braces} {{ jinja }} {% raw %}", "{} {0} {{ x }} %s"),
    ("", "No question."),
    ("Say nothing.", ""),
    ("Néant: 雪 🙂", "été 🙂 雪\n\n  two spaces"),
    ("A user asks", " and the assistant answers"),
]


# -- what is learned of messages in two columns ---------------------------------------------------------------------

ASKED = [("user", "1?"), ("assistant", "One."), ("user", "2?")]


def turns_of(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


IN_TWO_COLUMNS = {
    "prompt and completion": {
        "prompt": [turns_of(ASKED)],
        "completion": [turns_of([("assistant", "Two."), ("user", "Sure?"), ("assistant", "Yes.")])],
    },
    "pairs": {
        "prompt": [turns_of(ASKED)],
        "chosen": [turns_of([("assistant", "Two."), ("user", "Sure?"), ("assistant", "Yes.")])],
        "rejected": [turns_of([("assistant", "Three.")])],
    },
    "implicit pairs": {
        "chosen": [turns_of([*ASKED, ("assistant", "Two."), ("user", "Sure?"), ("assistant", "Yes.")])],
        "rejected": [turns_of([*ASKED, ("assistant", "Three.")])],
    },
    "labels": {
        "prompt": [turns_of(ASKED)] * 2,
        "completion": [turns_of([("assistant", "Two."), ("user", "Sure?"), ("assistant", "Yes.")])] * 2,
        "label": [True, False],
    },
}


@pytest.mark.parametrize("chat", [CHATML, None], ids=["ChatML", "default"])
@pytest.mark.parametrize("name", IN_TWO_COLUMNS)
def test_turns_of_the_prompt_are_context_and_all_answers_of_the_completion_are_learned(
    name: str, chat: str | None
) -> None:
    tokenizer = byte_level(chat=chat)
    examples = read(pa.table(IN_TWO_COLUMNS[name])).examples
    tokens = tokenize(examples, tokenizer, template="chat", max_length=1000)
    end = "<|im_end|>" if chat else tokenizer.eos_token
    between = end if chat else ""
    assert supervised_text(tokenizer, tokens, 0) == f"Two.{between}Yes.{end}"
    whole = chats([[*ASKED, ("assistant", "Two."), ("user", "Sure?"), ("assistant", "Yes.")]])
    learned = tokenize(whole, tokenizer, template="chat", max_length=1000)
    assert tokenizer.decode(row_of(tokens, 0)[0]) == tokenizer.decode(row_of(learned, 0)[0])
    assert supervised_text(tokenizer, learned, 0) == f"One.{between}Two.{between}Yes.{end}"
    last = tokenize(examples, tokenizer, template="chat", max_length=1000, supervise="last")
    assert supervised_text(tokenizer, last, 0) == f"Yes.{end}"
    if examples.paired:
        rejected = tokenize(examples.rejected(), tokenizer, template="chat", max_length=1000)
        assert supervised_text(tokenizer, rejected, 0) == f"Three.{end}"


# -- the ends of a row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_supervised_text_is_the_completion_and_eos(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokens = tokenize(pairs(ROWS), tokenizer, template="alpaca", max_length=2000)
    for k, (_, completion) in enumerate(ROWS):
        if name.startswith("metaspace"):  # which decodes a space at the beginning of a text to nothing
            completion = completion.removeprefix(" ")
        assert supervised_text(tokenizer, tokens, k) == (completion + tokenizer.eos_token if completion else "")
    assert tokens.valid.tolist() == [bool(completion) for _, completion in ROWS]
    assert not tokens.truncated.any()


@pytest.mark.parametrize("template", ["alpaca", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_bos_prompt_completion_eos_each_tokenized_alone(name: str, template: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokens = tokenize(pairs(ROWS), tokenizer, template=template, max_length=2000)
    from curate.tokenization.templates import renderer

    rendered = renderer(pairs(ROWS), template, tokenizer)(0, len(ROWS))
    begin = [tokenizer.bos_token_id] if "bos" in name else []
    for k, pieces in enumerate(rendered):
        prompt, completion = (plain_encode(tokenizer, text) for text, _ in pieces)
        end = [tokenizer.eos_token_id] if completion else []
        ids, supervised = row_of(tokens, k)
        assert ids == begin + prompt + completion + end
        assert supervised == [False] * len(begin + prompt) + [True] * len(completion + end)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_length", [2, 3, 7, 30, 60, 61, 62])
def test_a_cut_text_is_the_beginning_of_the_whole_one(name: str, max_length: int) -> None:
    tokenizer = TOKENIZERS[name]()
    texts = read(pa.table({"text": [f"{prompt} {completion}" for prompt, completion in ROWS]})).examples
    whole = tokenize(texts, tokenizer, template="none", max_length=2000)
    cut = tokenize(texts, tokenizer, template="none", max_length=max_length)
    assert (cut.lengths <= max_length).all()
    assert not cut.prompt_cut.any()
    assert cut.completion_cut.tolist() == np.maximum(whole.lengths - max_length, 0).tolist()
    for k in range(len(ROWS)):
        ids, supervised = row_of(whole, k)
        text = np.array(supervised[:max_length]) & (np.array(ids[:max_length]) != tokenizer.eos_token_id)
        assert row_of(cut, k)[0] == ids[:max_length]
        assert cut.valid[k] == text.any()
        assert row_of(cut, k)[1] == (supervised[:max_length] if cut.valid[k] else [False] * len(row_of(cut, k)[0]))
        assert (tokenizer.eos_token_id in row_of(cut, k)[0]) == bool(cut.valid[k] and not cut.truncated[k])


def test_a_row_that_just_fits_keeps_its_eos_and_one_token_less_is_truncated() -> None:
    tokenizer = byte_level()
    examples = pairs([("What is 12?", "The answer")])
    length = int(tokenize(examples, tokenizer, template="plain", max_length=500).lengths[0])
    fits = tokenize(examples, tokenizer, template="plain", max_length=length)
    assert fits.ids[-1] == tokenizer.eos_token_id
    assert not fits.truncated[0]
    short = tokenize(examples, tokenizer, template="plain", max_length=length - 1)
    assert short.truncated[0]
    assert short.valid[0]
    assert np.array_equal(short.ids, fits.ids[1:])
    assert (short.prompt_cut[0], short.completion_cut[0]) == (1, 0)


@pytest.mark.parametrize("auto_bos", [False, True])
def test_the_first_token_of_text_is_not_supervised_unless_bos_stands_before_it(auto_bos: bool) -> None:
    tokenizer = byte_level(auto_bos=auto_bos)
    texts = ["The answer is 42.", "a", "", "Yes. No."]
    tokens = tokenize(read(pa.table({"text": texts})).examples, tokenizer, template="none", max_length=100)
    for k, text in enumerate(texts):
        inner = plain_encode(tokenizer, text)
        expected = (inner if auto_bos else inner[1:]) + [tokenizer.eos_token_id]
        ids, supervised = row_of(tokens, k)
        found = [number for number, counts in zip(ids, supervised, strict=True) if counts]
        assert found == (expected if len(expected) > 1 else [])
    assert tokens.valid.tolist() == [True, auto_bos, False, True]  # nothing predicts a first and only token


@pytest.mark.parametrize("template", ["plain", "alpaca", "chat"])
@pytest.mark.parametrize("auto_bos", [False, True])
@pytest.mark.parametrize("chat", ["chatml", "begins with bos", "eos ends a turn"])
def test_bos_and_eos_stand_once(chat: str, auto_bos: bool, template: str) -> None:
    tokenizer = byte_level(auto_bos=auto_bos, chat=CHATS[chat])
    rows = [(a, b) for a, b in ROWS if b]
    tokens = tokenize(pairs(rows), tokenizer, template=template, max_length=500)
    in_template = template == "chat" and chat == "begins with bos"
    for k in range(len(rows)):
        ids, supervised = row_of(tokens, k)
        assert ids.count(tokenizer.bos_token_id) == (auto_bos or in_template)
        assert ids[0] == tokenizer.bos_token_id or not (auto_bos or in_template)
        ends = ids.count(tokenizer.eos_token_id) + ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>"))
        turns = 2 if template == "chat" and chat != "begins with bos" else 1  # the question has an end as well
        assert ends == turns
        assert supervised[-1]


@pytest.mark.parametrize("eos", ["<|end|>", "<|im_end|>"])
def test_the_end_of_a_turn_is_supervised_and_stands_for_eos(eos: str) -> None:
    tokenizer = byte_level(chat=CHATML, eos=eos)
    turns = [("system", "Be brief."), ("user", "Yes."), ("assistant", "Yes."), ("user", "b"), ("assistant", "two\n")]
    tokens = tokenize(chats([turns]), tokenizer, template="chat", max_length=500)
    assert supervised_text(tokenizer, tokens, 0) == "Yes.<|im_end|>two\n<|im_end|>"
    ids, supervised = row_of(tokens, 0)
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 5
    assert (tokenizer.eos_token_id in ids) == (eos == "<|im_end|>")
    before = [number for number, counts in zip(ids, supervised, strict=True) if not counts]
    assert tokenizer.decode(before) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nYes.<|im_end|>\n<|im_start|>assistant\n"
        "\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_without_an_end_of_turn_gets_one_eos_at_the_end_of_the_row() -> None:
    tokenizer = byte_level(chat=CHATS["no end of turn"])
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    for chosen in (tokenizer, byte_level(chat=None)):
        tokens = tokenize(chats([turns]), chosen, template="chat", max_length=500)
        assert supervised_text(chosen, tokens, 0) == "bd<|end|>"


def test_conversations_without_answer_text_are_invalid() -> None:
    tokenizer = byte_level(chat=CHATML)
    rows = [
        [("user", "a"), ("assistant", "")],
        [("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")],
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "")],
    ]
    tokens = tokenize(chats(rows), tokenizer, template="chat", max_length=500)
    assert tokens.valid.tolist() == [False, True, True]
    assert [supervised_text(tokenizer, tokens, k) for k in range(3)] == ["", "c<|im_end|>", "b<|im_end|>"]


def test_an_unknown_word_is_completion_text() -> None:
    tokenizer = word_level()
    tokens = tokenize(pairs([("What is", "xyzzy"), ("What is", "   ")]), tokenizer, template="plain", max_length=50)
    assert tokens.valid.tolist() == [True, False]  # white space alone has no token here
    assert row_of(tokens, 0)[0][-2:] == [tokenizer.unk_token_id, tokenizer.eos_token_id]
    assert tokens.completion_tokens.tolist() == [2, 0]


def test_a_completion_that_spells_eos_has_it_once_and_is_no_text() -> None:
    tokenizer = byte_level()
    rows = [("a", "The answer<|end|>"), ("a", "<|end|>")]
    tokens = tokenize(pairs(rows), tokenizer, template="plain", max_length=50)
    assert supervised_text(tokenizer, tokens, 0) == "The answer<|end|>"
    assert tokens.valid.tolist() == [True, False]
    assert tokens.completion_tokens[1] == 0


def test_a_tokenizer_without_eos_ends_with_the_completion() -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    tokens = tokenize(pairs(ROWS), tokenizer, template="plain", max_length=500)
    assert supervised_text(tokenizer, tokens, 0) == ROWS[0][1]
    assert tokens.valid[0]


# -- the dataset ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_result_does_not_depend_on_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, examples = TOKENIZERS[name](), small_examples(23)
    whole = tokenize(examples, tokenizer, template="alpaca", max_length=90)
    seen: list[int] = []
    for rows in (1, 5, 23):
        monkeypatch.setattr(tokenization, "_CHUNK_ROWS", rows)
        seen.clear()
        assert equal_tokens(tokenize(examples, tokenizer, template="alpaca", max_length=90, advance=seen.append), whole)
        assert sum(seen) == len(examples)
    alone = [tokenize(examples.take(np.array([k])), tokenizer, template="alpaca", max_length=90) for k in range(23)]
    for k, tokens in enumerate(alone):
        assert equal_tokens(tokens, whole.slice(k, k + 1))


def test_no_rows_have_no_tokens() -> None:
    tokens = tokenize(small_examples(5).take(np.array([], np.int64)), byte_level(), template="plain", max_length=50)
    assert len(tokens) == 0
    assert tokens.offsets.tolist() == [0]
    assert len(tokens.completion_tokens) == 0


def test_truncation_and_padding_left_on_in_a_tokenizer_do_not_matter() -> None:
    examples, fresh, used = pairs(ROWS), byte_level(), byte_level()
    used(["a", "a longer text"], truncation=True, max_length=2, padding="max_length")
    assert equal_tokens(
        tokenize(examples, used, template="plain", max_length=90),
        tokenize(examples, fresh, template="plain", max_length=90),
    )


@pytest.mark.parametrize("letters", ["a", "0123456789", " ", "=+", "é雪"])
@pytest.mark.parametrize("side", ["prompt", "completion"])
def test_ten_megabytes_without_a_word_boundary_are_fast(letters: str, side: str) -> None:
    tokenizer = byte_level()
    long = letters * (10_000_000 // len(letters))
    started = time.process_time()
    tokens = tokenize(pairs([placed(long, side)]), tokenizer, template="plain", max_length=64)
    assert time.process_time() - started < 2
    assert tokens.valid[0]
    cuts = (tokens.prompt_cut[0], tokens.completion_cut[0])
    assert cuts[side == "prompt"] == 0
    assert cuts[side == "completion"] > 100_000
    shorter = tokenize(pairs([placed(long[-4000:], side)]), tokenizer, template="plain", max_length=64)
    assert np.array_equal(tokens.ids, shorter.ids)
    assert np.array_equal(tokens.supervised, shorter.supervised)


def placed(text: str, side: str) -> tuple[str, str]:
    return ("What is", text) if side == "completion" else (text, "The answer")


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (" " * 500_000 + "The answer", "The answer"),
        ("x" * 500_000 + " The answer is", "x The answer is"),
        ("x" * 500_000, "x"),
    ],
    ids=["spaces", "unknown word and more", "unknown word"],
)
@pytest.mark.parametrize("side", ["prompt", "completion"])
def test_text_after_many_characters_of_few_tokens_counts(long: str, short: str, side: str) -> None:
    found, expected = (
        tokenize(pairs([placed(text, side)]), word_level(), template="plain", max_length=64) for text in (long, short)
    )
    assert not found.truncated[0]
    assert equal_tokens(found, expected)


@pytest.mark.parametrize("name", [*NAMES, "word level"])
def test_cutting_long_cells_early_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = {**TOKENIZERS, "word level": word_level}[name]()
    rng = np.random.default_rng(0)
    words = ["The", "answer", "is", "42,", "because", "\n\n", "    ", "é🙂雪", "=" * 50, "xyzzy" * 30, "a"]
    texts = [
        "".join(rng.choice(words, 1000)) if k % 2 else " ".join(rng.choice(words, 1000)) for k in range(4)
    ]  # without and with spaces
    rows = [(text, "a") for text in texts] + [("a", text) for text in texts]
    for max_length in (16, 60):
        early = tokenize(pairs(rows), tokenizer, template="plain", max_length=max_length)
        with monkeypatch.context() as patch:
            patch.setattr(truncation, "CHARACTERS_PER_TOKEN", 1_000_000)
            whole = tokenize(pairs(rows), tokenizer, template="plain", max_length=max_length)
        with monkeypatch.context() as patch:  # has to try longer and longer pieces
            patch.setattr(truncation, "CHARACTERS_PER_TOKEN", 1)
            later = tokenize(pairs(rows), tokenizer, template="plain", max_length=max_length)
        for found in (early, later):
            assert same_rows(found, whole)
            for name_of in ("prompt_cut", "completion_cut"):  # estimated, where a text was not read to its end
                counts, exact = getattr(found, name_of), getattr(whole, name_of)
                assert np.array_equal(counts > 0, exact > 0)
                np.testing.assert_allclose(counts, exact, rtol=0.5)


def test_a_word_at_the_cut_is_tokenized_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    rows = [("~" * count + "because the instruction", "a") for count in range(40, 70)]
    whole = tokenize(pairs(rows), tokenizer, template="plain", max_length=64)
    monkeypatch.setattr(truncation, "CHARACTERS_PER_TOKEN", 1)
    assert same_rows(tokenize(pairs(rows), tokenizer, template="plain", max_length=64), whole)


def test_types_of_tokenized_data() -> None:
    tokens = tokenize(small_examples(3), byte_level(), template="plain", max_length=50)
    assert (tokens.ids.dtype, tokens.supervised.dtype, tokens.offsets.dtype) == (np.int32, np.bool_, np.int64)
    assert (tokens.valid.dtype, tokens.truncated.dtype) == (np.bool_, np.bool_)
    assert (tokens.prompt_cut.dtype, tokens.completion_cut.dtype) == (np.int32, np.int32)
