"""Words around an answer that deny it or take it back: "I doubt that the answer is 5", "7. Wait, no: 8"."""

from __future__ import annotations

import re

from curate.verify.numbers import plain_number

# What begins a sentence in which an answer is taken back.
_RETRACTION = re.compile(
    r"""(?:^|[.!?;:,(\u2013\u2014-])[ \t*_]{0,6}(?: (?:but|oh|hm+|ah|so|ok|okay),?[ ])?
        (?: (?:(?:no,?[ ])?wait(?![ ]for)|correction|oops|sorry|apologies|scratch[ ]that|strike[ ]that|hm+|actually
            |rather|erratum|edit(?=:)|update(?=:)|my[ ](?:bad|mistake|error)|hold[ ]on|not[ ]so[ ]fast|or[ ]is[ ]it
            |on[ ](?:second[ ]thought|reflection)|(?:I|we)[ ]take[ ](?:that|it)[ ]back
            |let[ ](?:me|us)[ ](?:correct|fix|redo|rethink|reconsider|start[ ]over|try[ ]again)
            |(?:that|this|it)(?:[ ]is|['\u2019]s|[ ]was|[ ]must[ ]be)[ ](?:wrong|incorrect|not[ ](?:right(?!-)|correct)
              |an?[ ](?:mistake|error))
            |(?:that|this|it)[ ](?:can(?:not|['\u2019]t|[ ]not)|(?:is|was)n['\u2019]t)[ ](?:be[ ])?(?:right|correct)
            |(?:I|we)[ ](?:was|were|am|are)[ ]wrong|(?:I|we)[ ](?:have[ ])?made[ ]an?[ ](?:mistake|error)
            |(?:I|we)[ ](?:forgot|misread|miscalculated|miscounted|overlooked))\b
          | no(?=[ ]?[,.:;!\u2013\u2014-]) )
      | \A[\s$*_)}\]"'`]*(?:\\[)\]])?[ ]*(?:
            (?:is|was|seems|looks|would[ ](?:be|have[ ]been)|can(?:not|['\u2019]t)[ ]be)[ ](?:an?[ ]|the[ ])?
              (?:wrong|incorrect|false|naive|too|mistaken
                |not[ ](?:an?[ ]|the[ ])?(?:right|correct|answer|it|valid|enough|solution))\b
          | would[ ](?:be|have[ ]been)\b | (?:is|was)n['\u2019]t[ ](?:the[ ])?(?:right|correct|answer|it|valid)\b )
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_NUMBER = r"-?[$\u20ac\u00a3]?\d[\d,]*(?:\.\d+)?"
# A last line, or sentence, that arrives at a number: "Yes, 8.", "so it's 8".
_CONCLUSION = re.compile(
    rf"""(?:^|[.!?;:,]\s)[ ]*(?:(?:so|thus|hence|therefore|yes|then)\b[,:]?[ ]*)?
        (?:(?:it|that|this)(?:['\u2019]s|[ ]is|[ ]must[ ]be|[ ]should[ ]be|[ ]equals)[ ]*|(?<=[a-zA-Z][, ])[ ]*)
        [*$]{{0,3}}({_NUMBER})[*$]{{0,3}}[.!]?[ ]*$""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
# What parts the clause that says the answer from what stands before it.
_CLAUSE_START = re.compile(
    r"[.!?:;,\n\u2013\u2014]|\b(?:so|then|thus|hence|therefore|and|but|because|since|as)\b", re.IGNORECASE
)
_CERTAIN = re.compile(r"\b(?:no|without(?: an?y?)?|not a|beyond) doubt\b|\bdoubtless\b", re.IGNORECASE)
_DENIAL = re.compile(
    r"\b(?:not|never|nobody|no one|no way|hardly|doubts?|doubtful|unlikely|false|wrong|incorrect|mistaken|denies|deny"
    r"|cannot|if|whether|unless|suppose|assume|assuming|previous|earlier|initial|naive|tempting"
    r"|myth|untrue|impossible|refut\w+|reject\w*|disagree|rules? out)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


def retracted(answer: str, behind: str) -> bool:
    """Whether what stands behind an answer takes it back, or ends in another number."""
    if _RETRACTION.search(behind) is not None:
        return True
    number = plain_number(answer)
    if number is None:
        return False
    conclusions = (plain_number(match[1]) for match in _CONCLUSION.finditer(behind))
    return any(conclusion is not None and conclusion.value != number.value for conclusion in conclusions)


def denied(before: str) -> bool:
    """Whether the clause that leads to an answer denies it, or only supposes it."""
    start = max((match.end() for match in _CLAUSE_START.finditer(before)), default=0)
    return denies(_CERTAIN.sub("", before[start:]))


def denies(words: str) -> bool:
    """Whether there is a word of denial or supposition."""
    return _DENIAL.search(words) is not None
