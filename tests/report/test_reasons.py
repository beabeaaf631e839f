"""Reasons for lost rows and problems: each has words."""

from __future__ import annotations

import re

from curate.report.reasons import REASONS, kind_of
from tests import ROOT


def test_every_outcome_that_synthesis_gives_has_words() -> None:
    """The reasons stand as literals in the code that rejects; a new one without words would show as it is."""
    folder = ROOT / "augmenters" / "synthesis"
    files = (folder / "variants.py", folder / "prompts.py", ROOT / "curate" / "verify" / "verdict.py")
    code = "".join(path.read_text() for path in files)
    given = set(re.findall(r'(?:reject\(|return |fault = |else |\(|UNFINISHED = )"([a-z][a-z ]{6,})"', code))
    assert {"too easy", "answer in the problem", "budget reached", "no problem in the proposal"} <= given
    assert {outcome for outcome in given if not kind_of(outcome, REASONS).meaning} == {"in the band"}
