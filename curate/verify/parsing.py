"""Parse answers into SymPy objects with math-verify; ambiguous notation is not parsed."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from curate.verify.normalization import braced, join_thousands

# Words, which are not products of variables, even short ones.
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|(?:to|of|is|at|by|if|or|in|st|nd|rd|th|ft|km|cm|mm|kg|hr|lb|oz)(?![A-Za-z]))"
)
_FUNCTIONS = "sqrt|sin|cos|tan|sec|csc|cot|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|min|max|gcd|lcm|det"
_NAMES = re.compile(rf"(?<![\\A-Za-z])({_FUNCTIONS}|pi|alpha|beta|theta|infty)(?![A-Za-z])")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-z]+\*?\}")
_BASED = re.compile(r"\d\s*_\s*\{?\d")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_BRACED = r"\{(?:[^{}]|\{[^{}]*\})*\}"
# Notation that the parser reads in one of two ways, or wrongly: numbers side by side, 2 x 3, primes, ratios and
# times, 2e5, 5 r 1, double factorials, indices of brackets, powers of powers, lines above (which may be conjugates),
# inverse functions; a slash or a sign of multiplication behind factors without one, as in 2/3\pi and \sin x \cdot y;
# numbers in braces or square brackets next to others.
_AMBIGUOUS = re.compile(
    rf"""\d\ \.?\d | \d\ ?x\ ?\d | (?<![\\A-Za-z])[A-Za-z]\ \d | ' | \\prime | :
      | \d\ ?[eE]\ ?[-+]?\ ?\d | \d\ ?[rR]\ ?\d | !\ ?! | (?<![\w)}}\]])!\ ?\d
      | [)\]]\ ?_ | \^\ ?(?:[\w.]|\{{[^{{}}]*\}})\ ?\^ | \\(?:overline|bar|conj)(?![A-Za-z])
      | (?<![\\A-Za-z])[A-Za-z]\ ?\^\ ?\{{?\ ?-\ ?1\ ?\}}?\ ?\(
      | (?<![\\A-Za-z])[fgh]\ ?\^\ ?\{{?\ ?-\ ?1(?!\d)
      | /\ ?(?:\d+(?:\.\d+)?|[A-Za-z]|\\pi)\ ?(?=[A-Za-z(]|\\(?:[a-z]?frac|pi|sqrt|sin|cos|tan|log|ln)(?![A-Za-z]))
      | \\(?:arc)?(?:sin|cos|tan|sec|csc|cot|log|ln)h?(?![A-Za-z])(?>(?:\ ?[_^]\ ?(?:\w|{_BRACED}))*)
        (?:\ ?(?:[A-Za-z\d.!^]|\\[a-z]+(?<!\\times)(?<!\\cdot)(?<!\\div)(?![A-Za-z])|{_BRACED}))+
        \ ?(?:/|\*|\(|\\(?:times|cdot|div)(?![A-Za-z]))
      | [\d)]\ ?\[ | \d\ ?\{{ | (?:^|[^\w}}\]\\^])\{{[^{{}}]*\}}\ ?[({{\d]
    """,
    re.VERBOSE,
)
_MIXED = re.compile(r"(?<![\d.^_{/])(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|(?<![\\A-Za-z])[A-Za-z]) degrees")
# The parser adds adjacent terms, as in mixed numbers, and reads \pi as a function: 2(3), \pi(3).
_FACTORS = re.compile(
    r"((?<![\d.^_])\d+(?:\.\d+)?|\)|\\pi) ?(?=\()|(\)) ?(?=[\d.]|\\(?:frac|sqrt|binom|Gamma|pi)(?![A-Za-z]))"
)
_BINOMIAL = re.compile(rf"\\binom ?{_BRACED} ?{_BRACED}")
_SCIENTIFIC = re.compile(r"\A([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})\Z", re.ASCII)
_OR, _AND = re.compile(r"\s*\\lor(?![A-Za-z])\s*"), re.compile(r"\s*\\land(?![A-Za-z])\s*")
_GAMMA = re.compile(r"(?<=[\d)}]) ?(?=\\Gamma)")
_INEXACT = re.compile(r"\\(?:approx|sim)(?![A-Za-z])|\?")


def both_cases(text: str) -> bool:
    """Whether a letter, or a command such as \\Pi, occurs in both cases, which the parser does not distinguish."""
    bare = _NAMES.sub(" ", _ENVIRONMENT.sub(" ", text))
    names = {*_COMMAND.findall(bare), *re.findall("[A-Za-z]", _COMMAND.sub(" ", bare))}
    return len({name.lower() for name in names}) < len(names)


@lru_cache(maxsize=512)
def parsed(text: str) -> Any:
    """Parse an expression into a SymPy object, with decimals as exact fractions; None if it cannot be parsed.

    Only `curate.verify.math_verify_worker` uses this, since parsing may take any amount of time.
    """
    import sympy
    from math_verify import parse
    from sympy import Basic, Float, I, MatrixBase, Rational, Symbol

    for joint, relation in ((_OR, sympy.Or), (_AND, sympy.And)):
        if joint.search(text):
            parts = [parsed(part) for part in joint.split(text)]
            all_relations = all(
                isinstance(part, sympy.core.relational.Relational | sympy.And | sympy.Or) for part in parts
            )
            return relation(*parts) if all_relations else None
    latex = _as_latex(text)
    if latex is None:
        return None
    readings = parse(f"${latex}$", [_extraction()], fallback_mode="no_fallback", parsing_timeout=None)
    if not readings:
        return None
    expression = readings[0]
    if not isinstance(expression, Basic | MatrixBase):
        return expression
    # The parser reads i as a variable, and variables as real or complex depending on their neighbors.
    exact: dict[Any, Any] = {number: Rational(str(number)) for number in expression.atoms(Float)}
    for name in expression.atoms(Symbol):
        real = I if name.name == "i" else Symbol(name.name, real=True)
        if real != name:
            exact[name] = real
    return expression.xreplace(exact) if exact else expression


@cache
def _extraction() -> Any:
    """Options of the parser: units are kept, because the letters s, m or h after a term may be variables.

    Malformed LaTeX is not repaired: the patterns of math-verify would read \\frac{1}{2}+\\log_{2} 16 as
    \\frac{1}{2}+\\log_{2}{1}6.
    """
    from dataclasses import replace

    from math_verify.parser import LatexExtractionConfig

    plain = LatexExtractionConfig()
    normalized = replace(plain.normalization_config, units=False, malformed_operators=False)
    return replace(plain, normalization_config=normalized)


def _as_latex(text: str) -> str | None:
    """Convert `text` (LaTeX, or notation of calculators and Python) to LaTeX; None for prose and incomplete text."""
    if "$" in text or _BASED.search(text) or _INEXACT.search(text):
        return None
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", join_thousands(text.replace("**", "^")))
    text = _NAMES.sub(r"\\\1 ", _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text)).replace(r"\sqrt(", r"\sqrt (")
    bare = _ENVIRONMENT.sub("", text)
    if _PROSE.search(bare) or _AMBIGUOUS.search(bare):
        return None
    if any(int(top) >= int(bottom) for _, top, bottom in _MIXED.findall(bare)):
        return None
    text = _GAMMA.sub(r"\\times ", _BINOMIAL.sub(r"(\g<0>)", text))
    for opening in (r"\sqrt (", "^("):
        while (place := text.find(opening)) >= 0:
            inside = _round(text, place + len(opening) - 1)
            if inside is None:
                return None
            head = opening.rstrip(" (")
            text = f"{text[:place]}{head}{{{inside[0]}}}{text[inside[1] :]}"
    text = re.sub(r"\^\s*(-?\d{2,}|-\d)", r"^{\1}", text)
    text = re.sub(r"\*|\\cdot(?![A-Za-z])", r"\\times ", _FACTORS.sub(r"\1\2\\times ", text))
    if any(braced(text, place.start()) is None for place in re.finditer(r"(?<!\\)\{", text)):
        return None
    return text


def _round(text: str, start: int) -> tuple[str, int] | None:
    """The text in the parentheses that open at `start`, and the position after them."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return text[start + 1 : place], place + 1
    return None
