"""Find the last number of a text, if it stands alone and the text neither denies it nor gives another."""

from __future__ import annotations

import re
from collections import deque

from curate.verify.denials import denied, retracted
from curate.verify.numbers import plain_number, scales

# Number words. "One" is a pronoun as often as a number, so it counts only beside a number ("one in 7").
_COUNT = r"""(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen
  |(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand)"""
_LAST_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-)?(?:(?:US)?[$€£]\s?)?(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?"
    r"(?:\s?\\?%|\s(?:percent|per cent)\b)?",
    re.ASCII,
)
# Context before or after a number that makes it part of something larger.
_PART_BEFORE = re.compile(
    r"""[A-Za-z\d_^{\[]\Z | \d[,:]$ | [<>!]=[ ]?$ | [+/^<>~|\u00b1\u00d7\u00f7\u00b7\u221a\u2248][ ]?$
      | [\w)\]}]\*{1,2}$ | \d\*{1,2}[ ]$ | [\w)\]}][ ]\*{1,2}[ ]$ | \d[ ]\*$ | [\w)\]}$][ ]-[ ]?$ | [\w)\]}$]-[ ]?$
      | \\(?!(?:to|implies|[a-z]*[rR]ightarrow|quad)\b)[A-Za-z]+[ ]?$
      | \d[ ](?:and|or|to|by|x|plus|minus|times|over|out[ ]of|in|r|R|rem|remainder)[ ]$
      | \b(?:plus|minus|negative|menos|moins|times|over|than|log|ln|sin|cos|tan)[ ]$
      | \b(?:root|square|cube|power|factorial|half|third|quarter|twice|double|triple|reciprocal|inverse|negative
          |opposite|absolute[ ]value|multiple|factor|divisor)(?:[ ]of)?[ ]$
      | \b(?:(?:divided|multiplied|divisible)[ ]by|mod|modulo|base|choose|through|but|except|under|below|above|nearly
          |almost|up[ ]to|at[ ](?:most|least)|(?:undefined|defined)[ ]at|like)[ ]$ | \u00ac[ ]?$
      | \d[ ]?[\u2013\u2014][ ]?$ | [\u2013\u2014]\Z | [\u2200-\u2233\u2235-\u22ff][ ]?$ | \d[ ]$ | \\log_\{?\w+\}?[ ]?$
      | (?:\b(?:not|never|cannot|neither|nor|no|pas|nicht|kein\w{0,2}|\u043d\u0435|\u043c\u0438\u043d\u0443\u0441)
          |n['\u2019]t)(?:[ ][^\W\d_]+){0,2}[ ]$
      | [\u8d1f\u8ca0\u4e0d\u975e\u4e4b\u7b2c\u8fc7\u904e]\Z
      | (?<!\u7b49)[\u4e8e\u65bc]\Z | (?:\u4e0d\u662f|\u30de\u30a4\u30ca\u30b9)[ ]?\Z
      | =[ ]?\$?-?[\d.,/]+\$?[ ]?(?:,|;|,?[ ]and|,?[ ]or)[ ]\$?[A-Za-z]\w?[ ]?=[ ]?$
      | (?:\d|\bCOUNT)[ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?
          |lbs?|dollars?|k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?$
      | [!\#&@%?\u00a1\u00a7\u00b6\u00b0\u00bf\u203c\u2047-\u2049]\Z | (?:^|\s)[!\#][ ]\Z
      | \b(?:sqrt|cbrt|exp|arc[a-z]+|a?(?:sin|cos|tan|sec|csc|cot)h?|cis|ln|lg|log|erf|abs|floor|ceil|det|subfactorial
          |primorial)[ ]$
      | \b(?:(?:sub)?factorial|primorial|log(?:arithm)?|(?:co)?sine|(?:co)?tangent|(?:co)?secant|floor|ceiling
          |derivative|integral|conjugate|totient|modulus|exponential)[ ](?:of|at)[ ]$
      | \b(?:step|problem|theorem|lemma|corollary|claim|equation|eq\.|formula|rule|case|example|exercise|figure|table
          |section|chapter|question|line|page)[ ]\(?$
    """.replace("COUNT", _COUNT),
    re.VERBOSE,
)
_PART_AFTER = re.compile(
    r"""[ ]?(?:\.\.|\u2026|\\(?![)\]$,;!\\]|text|mathrm|mbox|quad)|[+/^_{}=<>~|!\])]
          |[\u00b1\u00d7\u00f7\u00b7\u00b2\u00b3\u00b9\u00bc-\u00be\u0300-\u03ff\u2030-\u2034\u2044\u2070-\u209f\u2150-\u218f]
          |[\u2200-\u22ff\u5341\u767e\u5343\u4e07\u842c\u5104\u4ebf\u5146\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03]
          |[\u516b\u4e5d\u4e24\u534a\u5206\u70b9\u9ede\u5272\u4ee5\u591a\u4f59\u9918\u51e0\uc2ed\ubc31\ucc9c\ub9cc\uc5b5\uc870])
      | [ ][A-Za-z]+[ ](?:and[ ]a[ ](?:half|quarter|third)|y[ ]medi[ao]|et[ ]demie?)\b
      | \*+[\w(] | [ ]\*+[ ]?[\w(] | -[\w(] | [ ]?-[ ]?(?:\w\b|\() | :\d | ,\d
      | (?:[ ]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*
        (?:plus|minus|times|x|over|divided|multiplied|mod|below|degrees[ ]below|and[ ]an?|out[ ]of|to[ ]the[ ]power
          |choose|or[ ](?:more|fewer|less)|y|et|und|e|K|inverse|octal|hex|binary|would|per[ ](?:thousand|mille)
          |(?:less|fewer|more|greater|bigger|larger|smaller)[ ]than|cent[ ]mil\w*|bucks?[ ]\w+
          |(?:is|are|was|were)n['\u2019]t|(?:is|are|was|were|seems|looks)[ ](?:not|wrong|incorrect|false|too)
          |(?:can|could)(?:not|n?['\u2019]t)?[ ](?:not[ ])?be)\b | [ ]?\?
      | [\#&@\u00a7\u00b6\u203c\u2047-\u2049] | [ ]![ ]?(?:$|[a-z]) | [ ][bdefjknpqrtuvwxyz]\b(?![.'\u2019])
    """,
    re.VERBOSE | re.IGNORECASE,
)
# The same in sentences; the result of a calculation stands whatever is said around it.
_CALCULATION = re.compile(r"([\d.,$%()+\-*/x\u00d7\u00f7 ]*)=\s?[*$(]*\Z")
_RESULT = re.compile(r"=\s?[*$(]*(\d+(?:[.,]\d+)*)([^=]*)\Z")
_SAID_BEFORE = re.compile(
    r"""\b(?:either|maybe|perhaps|possibly|(?:at[ ])?(?:minimum|maximum)(?:[ ]of)?|as[ ]many[ ]as|close[ ]to
          |exceeds?|divides|(?:different|far)[ ]from|(?:instead|short)[ ]of|as[ ]opposed[ ]to|past
          |quarter[ ]to|or[ ]equal(?:[ ]to)?
          |to[ ]the|(?:unequal|congruent|coprime|proportional|perpendicular|parallel|relative|compared
            |prior|next)[ ]to|point)[ ]$
      | \b(?:unlike|none[ ]of)[ ](?:\w+[ ]){0,3}$ | \d[ ](?:with[ ])?remainder[ ]$
      | \b(?:one|half|COUNT),?(?:[ ](?:and|or|to|by|in|out[ ]of|over|plus|minus|times|from|of|per|point|:))?[ ]$
      | (?<![\w'\u2019])[b-hj-zB-HJ-Z](?:,|[ ](?:and|or|to|per|by|in|at|from|of|:))?[ ]$
    """.replace("COUNT", _COUNT),
    re.VERBOSE | re.IGNORECASE,
)
_SAID_AFTER = re.compile(
    r""",?(?:[ ]\w+)?[ ](?:at[ ](?:most|least)|maybe|perhaps|possibly|if|unless|or[ ]so|or[ ]thereabouts
          |and[ ]change|point|modulo|to[ ]the[ ](?:[a-z]|second|third|(?:four|fif|six|seven|eigh|nin|ten)th)|raised[ ]to
          |per[ ][b-z])\b
      | (?:[ ](?:and|or|to|by|in|out[ ]of|over|from|of|per)|,)[ ](?:one|COUNT)\b
          (?![ ](?:more|less|fewer|of|times|\w+er)\b)
    """.replace("COUNT", _COUNT),
    re.VERBOSE | re.IGNORECASE,
)
_GLUED = re.compile(r"[A-Za-z]+")
_NEXT_WORD = re.compile(r"(?:[ -]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*([^\W\d_]+)")
_QUANTITY = re.compile(
    rf"\d+(?:[.,]\d+)* | \b{_COUNT}\b(?![ ](?:more|less|fewer|of|times|[a-z]+er)\b)", re.VERBOSE | re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<!\bvs)[.!?](?=\s)|\n")
# What makes two quantities two answers ("6 for A and 7 for B"), and what makes the second one that of both.
_JOINED = re.compile(
    r"[,;&]|\b(?:and|or|but|while|whereas|versus|vs|plus|as well as|respectively)\b"
    r"|(?:\b(?:by|to|till|until)|\s[:/]|(?:^|\s)\(?[a-z0-9ivx]{1,3}\))\s*\Z",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"""=|\b(?:so|thus|hence|therefore|totals?|totaling|altogether|in[ ]all|combined|together|sum|leaving
      |remain\w*|which|that|this|mean(?:s|ing)|making|equals?|equal[ ]to|results?|now|finally|overall|answer)\b
      | (?:,|\band)\s+(?:still[ ])?(?:has|have|ends|keeps|gets?|got|finds?|obtains?)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_CONCLUDED = re.compile(
    r"\b(?:in all|altogether|in total|total|combined|together|left|remain\w*|overall)\b", re.IGNORECASE
)
# A clause or a phrase that only leads to the sentence: "If she buys 3, she has 7", "In 3 days, she reads 7".
_INTRODUCED = re.compile(
    r"""\W*(?:(?:if|when|since|after|as|because|given|once|before|until|\w+ing)\b
          |(?:with|in|for|at|by|of|out|from|during|on|to)\b(?!.*\b(?:is|are|was|were|has|have|had|gets?|got)\b))""",
    re.VERBOSE | re.IGNORECASE,
)
_IF = re.compile(r"\b(?:if|when)\b", re.IGNORECASE)
_CHANGES = re.compile(
    r"\b(?:f[ae]ll|r[io]se|drop|increas|decreas|grow|grew|chang|reduc|lower|rais|go|went|cut)\w*\b.*\bfrom\b",
    re.IGNORECASE,
)
# Lines of a list of answers: "Tom: 6", "b) 7", "y = 7", "7"; a line that speaks of a total is none.
_LABELED = re.compile(
    r"""(?!.*\b(?:total|sum|answer|result|final|left|remain\w*|altogether)\b)
        (?:\W*[A-Za-z][^:=]{0,40}:[^:=]*\d[^:=]*
          | \W*(?:\w{1,3}[.)]|[A-Za-z]\w*\s?=)?[\s*$]*-?\d[\d.,]*(?:\s\w+)?\W*)""",
    re.VERBOSE | re.IGNORECASE,
)

# What follows a number in math delimiters, or in a box, that makes it part of something larger.
_GOES_ON = re.compile(
    r"""[A-Za-z](?![A-Za-z]) | [ ]?[-+\u2013][ ]?(?:\$|\\\()?\d | [ ]?[*/^\u00d7\u00b7\u00f7\u00b1][ ]?[\w$\\(]
      | ,?[ ](?:or|and)[ ](?:\$|\\\(|`|\*\*)?(?:-?\d|\\|[A-Za-z][ ]?=) | ,[ ]?(?:\$|\\\()(?:-?\d|[A-Za-z][ ]?=)
      | [ ](?:to|in|by|x)[ ](?:\$|\\\()?\d
      | [ ](?:plus|minus|times(?=[ ](?:\$|\\\(|\d|as\b|the\b))|over|divided|multiplied|mod|modulo|out[ ]of|remainder
          |rem|percent|below[ ]zero|short[ ]of
          |(?:less|more|fewer|greater|bigger|larger|smaller)[ ]than|and[ ]an?[ ](?:half|quarter|third))\b
      | [ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?|lbs?|dollars?
          |k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?(?:\$|\\\()?\d
    """,
    re.VERBOSE,
)


def goes_on(after: str) -> bool:
    """Whether the text after a number in math delimiters or a box makes it part of something larger."""
    if _GOES_ON.match(after):
        return True
    word = _NEXT_WORD.match(after)
    return word is not None and after[:1] in " \\" and scales(word[1])


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of all matches, without storing the others."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def last_number(text: str) -> str | None:
    """The last number of `text`, or None if there is none or it is part of something larger.

    3 does not stand alone in 2/3x, 3 + 5, !3, 3 dozen, 3..., (3, 5), "sqrt 3", "no 3" and LaTeX; "2 for A and 3 for B"
    and "Tom has 2, Ann has 3" give two answers; "if she has 3" and "3. Wait, no" give none.
    """
    last = last_match(_LAST_NUMBER, text)
    return last[0].strip() if last is not None and _stands_alone(text, last) else None


def _stands_alone(text: str, number: re.Match[str]) -> bool:
    """Whether a number stands alone: not part of a formula, a power, a pair, a date or "5 dozen"."""
    before, after = text[max(0, number.start() - 40) : number.start()], text[number.end() : number.end() + 40]
    if after[:1] == ")" and before[-1:] == "(":
        before, after = before[:-1], after[1:]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return False
    word = _NEXT_WORD.match(after)
    if word is not None and scales(word[1]):
        return False
    if not _CALCULATION.search(before) and (
        _SAID_BEFORE.search(before)
        or _SAID_AFTER.match(after)
        or denied(text[max(0, number.start() - 80) : number.start()])
    ):
        return False
    if retracted(number[0], text[number.end() :]) or _one_of_several(text, number):
        return False
    glued = _GLUED.match(after)
    return glued is None or plain_number(number[0] + glued[0]) is not None


def _one_of_several(text: str, number: re.Match[str]) -> bool:
    """Whether the sentence, or a list that ends with this line, gives other quantities beside the number."""
    before, after = text[max(0, number.start() - 400) : number.start()], text[number.end() : number.end() + 400]
    lines = [line for line in f"{before}{number[0]}{after}".split("\n") if line.strip()]
    if lines[1:] and all(map(_LABELED.fullmatch, lines[-2:])):
        return True
    after = _SENTENCE.split(after, maxsplit=1)[0]
    if _CONCLUDED.search(after):
        return False
    following = _QUANTITY.search(after)
    if following is not None and _JOINED.search(after[: following.start()]):
        return True
    sentence = _SENTENCE.split(before)[-1]
    calculation = _CALCULATION.search(sentence)
    earlier = (
        last_match(_QUANTITY, sentence) if calculation is None else _RESULT.search(sentence[: calculation.start()])
    )
    if earlier is None or (calculation is not None and earlier[1] in calculation[1]):
        return False
    between = sentence[earlier.end() :] if calculation is None else earlier[2]
    if not _JOINED.search(between) or _CONCLUDES.search(between):
        return False
    if _CHANGES.search(sentence):
        return False
    only_comma = not _JOINED.search(between.replace(",", " ")) and not _IF.search(between)
    return not (only_comma and _INTRODUCED.match(sentence[: earlier.start()]))
