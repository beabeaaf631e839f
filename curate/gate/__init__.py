"""Near-duplicate detection and decontamination against evaluation sets."""

from curate.gate.compared_text import compared_texts, read_texts
from curate.gate.gate import Gate, GateIndex, Hit

__all__ = ["Gate", "GateIndex", "Hit", "compared_texts", "read_texts"]
