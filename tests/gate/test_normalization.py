"""Texts are brought into one form before they are compared."""

import pytest

from curate.gate.normalization import split_words
from tests.fixtures.texts import STORY, VOCABULARY, words_of

# -- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $1,000.50, OK?", ["it", "costs", "1000.50", "ok"]),
        ("x^2 - 3 = 7", ["x", "^", "2", "-", "3", "=", "7"]),
        ("2x+3", ["2", "x", "+", "3"]),
        ("a well-known and/or rule", ["a", "well", "known", "and", "or", "rule"]),
        ("(1,2) and 1,2,3", ["1", "2", "and", "1", "2", "3"]),
        ("\uff21\uff22\uff23 ﬁne Straße", ["abc", "fine", "strasse"]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("ap\u200bple\u202e", ["apple"]),
        ("tab\tno\x00break\x85end\nline", ["tab", "nobreak", "end", "line"]),
        (
            "so\u00adft gl\u034fue sel\ufe0fected ze\u200b\u2060\ufeffro fil\u3164ler",
            ["soft", "glue", "selected", "zero", "filler"],
        ),
        ("cafe\u034f\u0301 1\x00,0\u200b00 well\u00ad-known", ["café", "1000", "well", "known"]),
        (
            "Anna&nbsp;buys&#160;3&nbsp;&lt; 4 R&amp;D &quot;it&#39;s&quot;",
            ["anna", "buys", "3", "<", "4", "r", "d", "it", "s"],
        ),
        ("AT&T &unknown; &amp", ["at", "t", "unknown", "amp"]),
        ("5 \u2212 3", ["5", "-", "3"]),
        ("lone \ud800 surrogate", ["lone", "surrogate"]),
        ("cafe\u0301", ["café"]),
        ("", []),
        (" ?!\t", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_words_do_not_depend_on_the_other_texts() -> None:
    texts = ["1,", "000 a", "", "b-", "c 1.", "5", "\u0301e", STORY, ",123", "a" * 3000]
    together = split_words(texts)
    for k, text in enumerate(texts):
        alone, low, high = split_words([text]), together.offsets[k], together.offsets[k + 1]
        assert together.strings(low, high) == alone.strings(0, len(alone.hashes))
        assert together.hashes[low:high].tolist() == alone.hashes.tolist()


def test_equal_words_and_no_others_have_equal_hashes() -> None:
    words = split_words([" ".join([*VOCABULARY, *map(str, range(2000)), "ab ba aab aba", *VOCABULARY])])
    strings = words.strings(0, len(words.hashes))
    assert len(set(words.hashes.tolist())) == len(set(strings))
    assert len(set(zip(strings, words.hashes.tolist(), strict=True))) == len(set(strings))
