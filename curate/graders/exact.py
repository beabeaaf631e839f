"""Grade completions by exact text."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from curate.component import Component
from curate.graders.final_words import final_words
from curate.verify.verdict import Verdict


class Exact(Component):
    """Right where the completion is the reference, character by character.

    White space at the ends, marks of the end of a turn and reasoning in <think> do not count; Unicode is compared in
    its composed form (NFC). Reasoning that does not end is undecided. For labels and other short texts.
    """

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """See `curate.protocols.Grader`."""
        answer_text = final_words(completion)
        if answer_text is None:
            return Verdict.undecided
        same = unicodedata.normalize("NFC", answer_text) == unicodedata.normalize("NFC", final_words(reference) or "")
        return Verdict.right if same else Verdict.wrong

    def extract(self, completion: str, cut_off: bool) -> str | None:
        """See `curate.protocols.Grader`."""
        return None if cut_off else final_words(completion)
