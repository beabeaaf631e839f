"""The process that compares expressions: `python -m curate.verify.worker MEMORY_BYTES`.

One JSON object per line in, one per line out. The process loads math-verify once and forks a child that serves; a child
that runs out of time or memory, or is killed, is replaced by the next fork within milliseconds. The time limit
is the child's own alarm with its default action, which ends the process even inside a long big-integer operation;
math-verify's own limits, which need the same alarm, are off. Never imported by a process that holds anything else:
it is single-threaded, so that forking is safe.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from curate.verify.answers import compare
from curate.verify.cleaning import braced, join_thousands
from curate.verify.numbers import Plain, compare_numbers, plain_number
from curate.verify.verdict import Verdict

__all__ = ["main"]

# Exit status of a child that answered but wants to be replaced, because it came near its memory limit.
_WORN = 3
# Digits to which values are compared: far beyond those that math-verify would take for equal.
_DIGITS = 50

# Words: they are no products of variables, even the short ones.
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|(?:to|of|is|at|by|if|or|in|st|nd|rd|th|ft|km|cm|mm|kg|hr|lb|oz)(?![A-Za-z]))"
)
_FUNCTIONS = "sqrt|sin|cos|tan|sec|csc|cot|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|min|max|gcd|lcm|det"
_NAMES = re.compile(rf"(?<![\\A-Za-z])({_FUNCTIONS}|pi|alpha|beta|theta|infty)(?![A-Za-z])")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-z]+\*?\}")
_BASED = re.compile(r"\d\s*_\s*\{?\d")
_COMMAND = re.compile(r"\\[A-Za-z]+")
# What the parser reads in one of two ways, or not as it is meant: numbers side by side, 2 x 3, primes, inverse
# functions, ratios and times; a slash before or after factors without a sign between them, as in 2/3\pi and \sin x/x.
_AMBIGUOUS = re.compile(
    r"""\d\ \.?\d | \d\ ?x\ ?\d | (?<![\\A-Za-z])[A-Za-z]\ \d | ' | \\prime | :
      | (?<![\\A-Za-z])[A-Za-z]\ ?\^\ ?\{?\ ?-\ ?1\ ?\}?\ ?\(
      | (?<![\\A-Za-z])[fgh]\ ?\^\ ?\{?\ ?-\ ?1(?!\d)
      | /\ ?(?:\d+(?:\.\d+)?|[A-Za-z]|\\pi)\ ?(?=[A-Za-z(]|\\(?:[a-z]?frac|pi|sqrt|sin|cos|tan|log|ln)(?![A-Za-z]))
      | \\(?:sin|cos|tan|sec|csc|cot|log|ln)\ ?(?:[\w.]|\\[a-z]+)+\ ?/
    """,
    re.VERBOSE,
)
_MIXED = re.compile(r"(?<![\d.^_{/])(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|(?<![\\A-Za-z])[A-Za-z]) degrees")
# The parser adds what stands side by side, as in a mixed number: 2(3).
_FACTORS = re.compile(r"((?<![\d.^_])\d+(?:\.\d+)?|\)) ?\((?=[-\d ./]*\)|\\frac)")
# How far these reach is a matter of taste.
_REACHING = re.compile(r"\\(?:lim|sum|prod|int)(?![A-Za-z])")
_INEXACT = re.compile(r"\\(?:ldots|dots|cdots|approx|sim)(?![A-Za-z])|\.\.\.|\?")


def main() -> None:
    """Serve until the input ends."""
    memory = int(sys.argv[1])
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _symbolic("x+1", "1+x")
    _symbolic(r"\frac{\sqrt{2}}{2}", r"\{1,2\}")
    _reply(out, {"ready": True})
    while True:
        child = os.fork()
        if child == 0:
            _serve(out, memory)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == _WORN):
            _reply(out, {"died": status})


def _reply(out: int, message: dict[str, Any]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _serve(out: int, memory: int) -> None:
    """Answer requests until the input ends; never returns."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    waiting = b""
    while True:
        while b"\n" not in waiting:
            more = os.read(0, 1 << 16)
            if not more:
                os._exit(0)
            waiting += more
        line, _, waiting = waiting.partition(b"\n")
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        worn = False
        try:
            verdict = compare(request["candidate"], request["reference"], _symbolic, ordered=request["ordered"])
        except (MemoryError, RecursionError):
            verdict, worn = Verdict.undecided, True
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(out, {"id": request["id"], "verdict": verdict.value})
        if worn:
            os._exit(_WORN)


def _symbolic(candidate: str, reference: str) -> Verdict:
    """Two cleaned expressions by math-verify; undecided if either cannot be read or comparing them fails."""
    from math_verify import verify

    if len(candidate) == len(reference) == 1 and candidate.isalpha() and reference.isalpha():
        # The parser takes N for n.
        return Verdict.right if candidate == reference else Verdict.wrong
    mine, theirs = _parsed(candidate), _parsed(reference)
    if mine is None or theirs is None or _cases(candidate + " " + reference):
        return Verdict.undecided
    try:
        same = verify(
            theirs,
            mine,
            float_rounding=_DIGITS,
            numeric_precision=_DIGITS,
            allow_set_relation_comp=True,
            timeout_seconds=None,
            raise_on_error=True,
        )
        if same:
            return Verdict.right
        if _REACHING.search(candidate) or _REACHING.search(reference):
            return Verdict.undecided
        if _rounded(candidate, theirs) or _rounded(reference, mine) or not _differ(mine, theirs):
            return Verdict.undecided
        return Verdict.wrong
    except (MemoryError, RecursionError):
        raise
    except Exception:  # SymPy raises anything; what it can't compare is undecided
        return Verdict.undecided


def _cases(text: str) -> bool:
    """Whether a letter, or a command such as \\Pi, stands there in both cases, which the parser takes for one."""
    bare = _NAMES.sub(" ", _ENVIRONMENT.sub(" ", text))
    names = {*_COMMAND.findall(bare), *re.findall("[A-Za-z]", _COMMAND.sub(" ", bare))}
    return len({name.lower() for name in names}) < len(names)


@lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    """The SymPy object that an expression stands for, decimals as exact fractions; None if it can't be read."""
    from math_verify import parse
    from sympy import Basic, Float, I, MatrixBase, Rational, Symbol

    latex = _as_latex(text)
    if latex is None:
        return None
    found = parse(f"${latex}$", [_extraction()], fallback_mode="no_fallback", parsing_timeout=None)
    if not found:
        return None
    expression = found[0]
    if not isinstance(expression, Basic | MatrixBase):
        return expression
    # The parser takes i for a variable, and variables for real or complex ones depending on what stands beside them.
    exact: dict[Any, Any] = {number: Rational(str(number)) for number in expression.atoms(Float)}
    for name in expression.atoms(Symbol):
        real = I if name.name == "i" else Symbol(name.name, real=True)
        if real != name:
            exact[name] = real
    return expression.xreplace(exact) if exact else expression


@cache
def _extraction() -> Any:
    """How to read LaTeX: units stay, because the letters s, m or h after a term may be variables."""
    from dataclasses import replace

    from math_verify.parser import LatexExtractionConfig

    plain = LatexExtractionConfig()
    return replace(plain, normalization_config=replace(plain.normalization_config, units=False))


def _as_latex(text: str) -> str | None:
    """`text` (LaTeX, or the notation of calculators and Python) as LaTeX; None for prose and what is left open."""
    if "$" in text or _BASED.search(text) or _INEXACT.search(text):
        return None
    text = join_thousands(text.replace("**", "^"))
    text = _NAMES.sub(r"\\\1 ", _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text))
    bare = _ENVIRONMENT.sub("", text)
    if _PROSE.search(bare) or _AMBIGUOUS.search(bare):
        return None
    if any(int(top) >= int(bottom) for _, top, bottom in _MIXED.findall(bare)):
        return None
    for opening in (r"\sqrt (", "^("):
        while (place := text.find(opening)) >= 0:
            inside = _round(text, place + len(opening) - 1)
            if inside is None:
                return None
            head = opening.rstrip(" (")
            text = f"{text[:place]}{head}{{{inside[0]}}}{text[inside[1] :]}"
    text = re.sub(r"\^\s*(-?\d{2,}|-\d)", r"^{\1}", text)
    text = re.sub(r"\*|\\cdot(?![A-Za-z])", r"\\times ", _FACTORS.sub(r"\1\\times (", text))
    if any(braced(text, place.start()) is None for place in re.finditer(r"(?<!\\)\{", text)):
        return None
    return text


def _round(text: str, start: int) -> tuple[str, int] | None:
    """What stands in the parentheses that open at `start`, and the place after them."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return text[start + 1 : place], place + 1
    return None


def _rounded(text: str, other: Any) -> bool:
    """Whether `text` is a decimal that may be the rounded value of an expression."""
    from sympy import Expr

    number = plain_number(text)
    if number is None or number.decimals < 2 or not isinstance(other, Expr) or other.free_symbols:
        return False
    value = other.evalf(_DIGITS)
    if not value.is_Float or not value.is_finite:
        return False
    return compare_numbers(number, Plain(Fraction(str(value)), 0, number.unit)) is not Verdict.wrong


def _differ(mine: Any, theirs: Any) -> bool:
    """Whether what could not be shown to be equal is shown to differ: expressions by their values at one point.

    Equations that give the same variable by their other sides, or are linear; sets by their elements, or by what is in
    one of them only. Relations, and objects of different kinds, may say the same in another way.
    """
    from sympy import Eq, Expr, MatrixBase, Set

    if isinstance(mine, Expr) and isinstance(theirs, Expr):
        return _apart(*(_at(side, mine, theirs, 0) for side in (mine, theirs)))
    if isinstance(mine, Eq) and isinstance(theirs, Eq):
        return _differ_as_equations(mine, theirs)
    if isinstance(mine, MatrixBase) and isinstance(theirs, MatrixBase) and mine.shape == theirs.shape:
        return any(_differ(one, two) for one, two in zip(mine.flat(), theirs.flat(), strict=True))
    if not (isinstance(mine, Set) and isinstance(theirs, Set)) or mine.free_symbols or theirs.free_symbols:
        return False
    if mine.is_FiniteSet and theirs.is_FiniteSet:
        return any(
            all(isinstance(two, Expr) and isinstance(one, Expr) and _differ(one, two) for two in others)
            for others, some in ((mine.args, theirs.args), (theirs.args, mine.args))
            for one in some
        )
    return mine.symmetric_difference(theirs).is_empty is False


def _differ_as_equations(mine: Any, theirs: Any) -> bool:
    if mine.lhs == theirs.lhs and mine.lhs.is_Symbol and not (mine.rhs.has(mine.lhs) or theirs.rhs.has(mine.lhs)):
        return _differ(mine.rhs, theirs.rhs)
    ours, other = mine.lhs - mine.rhs, theirs.lhs - theirs.rhs
    if any(not side.is_polynomial() or side.as_poly().total_degree() != 1 for side in (ours, other)):
        return False
    return _apart(*(_at(ours, mine, theirs, k) / _at(other, mine, theirs, k) for k in (0, 1)))


def _apart(one: Any, two: Any) -> bool:
    """Whether two values (finite, else there is nothing to see) are further apart than rounding explains."""
    if not (one.is_number and two.is_number and one.is_finite and two.is_finite):
        return False
    return bool(abs(one - two) > max(abs(one), abs(two)) * 1e-12)


def _at(expression: Any, mine: Any, theirs: Any, k: int) -> Any:
    """Value of an expression at the k-th point, in which each variable has a value of its own."""
    from sympy import Rational

    names = sorted(mine.free_symbols | theirs.free_symbols, key=str)
    point = {name: Rational(7 + 4 * place + k, 5 + 2 * place) for place, name in enumerate(names)}
    return expression.subs(point).doit().evalf(20)


if __name__ == "__main__":
    main()
