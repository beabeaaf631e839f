"""Reasons for lost rows and problems: each has words."""

from __future__ import annotations

import re

from augmenters.synthesis import variant_group as group
from augmenters.synthesis import variants
from augmenters.synthesis.checks import registry as checks
from curate.report.reasons import REASONS, kind_of
from tests import ROOT


def test_every_outcome_that_synthesis_gives_has_words() -> None:
    """The reasons stand as literals in the code that rejects; a new one without words would show as it is."""
    folder = ROOT / "augmenters" / "synthesis"
    files = (*(folder / name for name in ("variant_group.py", "prompts.py")), ROOT / "curate" / "verify" / "verdict.py")
    code = "".join(path.read_text() for path in files)
    given = set(re.findall(r'(?:reject\(|return |fault = |else |\()"([a-z][a-z ]{6,})"', code))
    given -= {"variation", "solution"}  # of seeds and requests
    given |= {variants.UNFINISHED, variants.GIVEN_UP, *checks.REASONS.values()}
    given |= {group.NOTHING_TO_SHOW, group.NO_RIGHT_SOLUTION, group.PARENT_TOO_EASY, group.PARENT_TOO_HARD}
    assert {"too easy", "answer in the problem", "budget reached", "no problem in the proposal"} <= given
    assert {outcome for outcome in given if not kind_of(outcome, REASONS).meaning} == {"in the band"}
