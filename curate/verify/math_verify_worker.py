"""Worker process that compares expressions: one JSON object per line in, one per line out."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from fractions import Fraction
from typing import Any

from curate.verify.equality import same
from curate.verify.equivalence import compare
from curate.verify.expressions import nearly, value_near
from curate.verify.numbers import plain_number
from curate.verify.parsing import both_cases, parsed
from curate.verify.verdict import Verdict

# Exit status of a child that answered but wants to be replaced, because it came near its memory limit.
_WORN = 3
# Decimals that may be rounded, to 10 places or more; and logarithms to base ten, or to base e in some books.
_FLOAT = re.compile(r"\.\d{10}")
_LOGARITHM = re.compile(r"(?:\\|(?<![\\A-Za-z]))log(?![A-Za-z]|\s*_)")


def main() -> None:
    """Serve requests until the input ends. Runs in the parent process, which forks the children that answer.

    One JSON object per line in, one per line out. The process loads math-verify once and forks a child that serves; a
    child that runs out of time or memory, or is killed, is replaced by the next fork within milliseconds. The time
    limit is the child's own alarm with its default action, which ends the process even inside a long big-integer
    operation; math-verify's own limits, which need the same alarm, are off. Never imported by a process that holds
    anything else: it is single-threaded, so that forking is safe.
    """
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
    """Answer requests until the input ends; never returns. Runs in a forked child."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    unread = b""
    while True:
        while b"\n" not in unread:
            received = os.read(0, 1 << 16)
            if not received:
                os._exit(0)
            unread += received
        line, _, unread = unread.partition(b"\n")
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
    """Compare two cleaned expressions; undecided if one cannot be read or the comparison fails."""
    if len(candidate) == len(reference) == 1 and candidate.isalpha() and reference.isalpha():
        # The parser reads N as n.
        return Verdict.right if candidate == reference else Verdict.wrong
    candidate_expression, reference_expression = parsed(candidate), parsed(reference)
    if candidate_expression is None or reference_expression is None or both_cases(candidate + " " + reference):
        return Verdict.undecided
    try:
        verdict = same(candidate_expression, reference_expression)
        return Verdict.undecided if verdict is Verdict.wrong and _may_be_same(candidate, reference) else verdict
    except (MemoryError, RecursionError):
        raise
    except Exception:  # SymPy may raise anything; what it cannot compare is undecided
        return Verdict.undecided


def _may_be_same(candidate: str, reference: str) -> bool:
    """Whether two different values may mean the same: one is rounded, printed from floats, or in another logarithm."""
    candidate_expression, reference_expression = parsed(candidate), parsed(reference)
    if _rounded(candidate, reference_expression) or _rounded(reference, candidate_expression):
        return True
    if _FLOAT.search(candidate + " " + reference) and nearly(candidate_expression, reference_expression):
        return True
    natural = [_LOGARITHM.sub(r"\\ln ", text) for text in (candidate, reference)]
    return natural != [candidate, reference] and same(*map(parsed, natural)) is not Verdict.wrong


def _rounded(text: str, expression: Any) -> bool:
    """Whether `text` is a decimal that may be the rounded value of an expression."""
    from sympy import Expr

    number = plain_number(text)
    if number is None or number.decimals < 2 or not isinstance(expression, Expr) or expression.free_symbols:
        return False
    half = Fraction(1, 2 * 10**number.decimals)
    # Rounded, or truncated towards zero.
    middles = (number.value, number.value + half * (-1) ** (number.value < 0))
    return any(value_near(expression, middle, half) for middle in middles)


if __name__ == "__main__":
    main()
