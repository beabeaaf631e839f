"""Format numbers and untrusted text for display."""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from typing import Any

from markupsafe import Markup

MISSING = "–"
_JOINERS = "\u200c\u200d"  # shape letters and emoji; they cannot reorder or hide text
# Unicode general categories of control and format characters.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, limit: int = 4_000) -> str:
    """The first `limit` characters of `text` with control characters made visible, and a note if it was cut.

    Text of a dataset may be hostile. The template engine escapes HTML; here control characters (terminal escapes,
    bidirectional overrides, invisible tags) are replaced by visible ones, and long text is cut with a note.
    """
    plain = text[:limit].replace("\r\n", "\n")
    if not plain.isascii() or not plain.isprintable():
        plain = "".join(map(_visible_character, plain))
    return plain if len(text) <= limit else f"{plain}… [cut: {len(text):,} characters in all]"


def shown(value: Any) -> Any:
    """Finalize a value that a template writes: strings are made `visible`, except markup of the template."""
    return visible(value, 20_000) if isinstance(value, str) and not isinstance(value, Markup) else value


def _visible_character(character: str) -> str:
    """The character itself, or a visible stand-in for a control character: ␛, ␡ or ⟨U+202E⟩."""
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _ACTING:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures: ESC becomes ␛
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def one_line(text: str, limit: int = 80) -> str:
    """The beginning of `text` on one line, at most about `limit` characters."""
    flat = " ".join(text[: 4 * limit].split())
    return visible(flat, len(flat)) if len(flat) <= limit else visible(flat[:limit], limit) + "…"


def printable_line(text: str, limit: int = 300) -> str:
    """Untrusted text as one line of printable characters: without terminal escapes, at most `limit` characters."""
    plain = "".join(c if c.isprintable() else " " for c in re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text))
    line = " ".join(plain.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def plot_text(text: str, limit: int = 60) -> str:
    """`text` for a label in a plot: plotly reads a dialect of HTML there, so its markup is escaped too."""
    return html.escape(one_line(text, limit))


def as_json(value: Any) -> Markup:
    """`value` as JSON that is safe inside a script element: no `<`, `>` or `&` is left in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def real(value: Any) -> float | None:
    """`value` as a finite float, or None where it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count(value: Any) -> str:
    """A whole number with separators: 120,000."""
    return MISSING if real(value) is None else f"{round(value):,}"


def compact(value: Any) -> str:
    """A whole number to three digits: 427, 9.61 k, 120 M."""
    number = real(value)
    if number is None:
        return MISSING
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * unit:
            return f"{decimal(number / unit)}{name}"
    return count(number)


def share(value: Any) -> str:
    """A fraction in [0, 1] as a percentage: 30.1 %."""
    number = real(value)
    if number is None:
        return MISSING
    if 0 < number < 0.001:
        return "< 0.1 %"
    return f"{100 * number:.1f} %"


def decimal(value: Any) -> str:
    """A number to three significant digits."""
    number = real(value)
    if number is None:
        return MISSING
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}".replace("-", "−")
    text = f"{abs(number):#.3g}".rstrip(".") if abs(number) < 999.5 else f"{abs(number):,.0f}"
    return f"−{text}" if number < 0 else text


def correlation(value: Any) -> str:
    """A number between -1 and 1, to two decimals."""
    number = real(value)
    return MISSING if number is None else f"{number:.2f}".replace("-", "−")


def duration(seconds: Any) -> str:
    """Format a duration in seconds: 0.4 s, 3 min 20 s, 2 h 5 min."""
    number = real(seconds)
    if number is None:
        return MISSING
    if number < 59.5:
        return f"{number:.1f} s" if number < 9.95 else f"{number:.0f} s"
    whole_seconds = round(number)
    if whole_seconds < 3600:
        return f"{whole_seconds // 60} min {whole_seconds % 60} s"
    minutes = round(number / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def times(copies: float) -> str:
    """Format how often a row occurs: once, twice, three times, 2.4 times."""
    names = {0: "not at all", 1: "once", 2: "twice", 3: "three times", 4: "four times"}
    return names.get(int(copies), f"{int(copies)} times") if copies == int(copies) else f"{copies:.2g} times"


def as_label(key: str) -> str:
    """Turn the key of a record into a label: `tokens_per_row` becomes "tokens per row"."""
    return one_line(str(key).replace("_", " "), 60)
