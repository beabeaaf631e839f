"""Numbers, lines and foreign text as they are shown: readable, never invented and never acting."""

from __future__ import annotations

import pytest

from curate.console.formatting import (
    compact,
    count,
    decimal,
    duration,
    one_line,
    plot_text,
    printable_line,
    share,
    times,
    visible,
)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x85, 0xAD, 0x61C, 0x200E, 0x202A, 0x202E, 0x2069, 0xE0001])
def test_visible_leaves_no_acting_character(code: int) -> None:
    shown = visible(f"a{chr(code)}b")
    if chr(code) in "\n\t":
        assert shown == f"a{chr(code)}b"
    else:
        assert chr(code) not in shown
        assert shown[0] + shown[-1] == "ab"
        assert len(shown) > 2


def test_visible_leaves_ordinary_text_alone() -> None:
    for text in ("plain, 100 %", "naïve — “quoted”", "數學 ١٢٣ עברית", "👩\u200d🚀", "می\u200cخواهم", "a\n\tb"):
        assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"


def test_numbers_read_well_and_never_invent() -> None:
    for write in (count, compact, share, decimal, duration):
        assert {write(value) for value in (None, float("nan"), float("inf"), "7", True)} == {"–"}
    assert [count(0), count(1234567)] == ["0", "1,234,567"]
    assert [compact(n) for n in (427, 9_610, 999_600, 120e6)] == ["427", "9.61 k", "1.00 M", "120 M"]
    assert [share(x) for x in (0, 0.0004, 0.301, 1)] == ["0.0 %", "< 0.1 %", "30.1 %", "100.0 %"]
    assert [decimal(x) for x in (1.8, -0.123, 12345.6, 3.0)] == ["1.80", "−0.123", "12,346", "3"]
    assert [duration(x) for x in (0.42, 59.4, 59.6, 200, 3599.9, 7500)] == [
        "0.4 s",
        "59 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "2 h 5 min",
    ]
    assert [times(x) for x in (0, 1, 2, 7, 2.5)] == ["not at all", "once", "twice", "7 times", "2.5 times"]


def test_lines_are_cut_and_plot_labels_escaped() -> None:
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("x" * 100, 10) == "x" * 10 + "…"


def test_untrusted_text_is_one_line_of_printable_characters() -> None:
    assert printable_line("a\x1b[1;31mb\x00c\n\n d" + "x" * 500, 20) == "ab c dxxxxxxxxxxx..."
    assert plot_text("<a href='javascript:1'>b</a>&") == "&lt;a href=&#x27;javascript:1&#x27;&gt;b&lt;/a&gt;&amp;"
