"""The gate every row passes before it enters a dataset: near-duplicates, and contamination by evaluation sets."""

from curate.gate.gate import Gate, GateIndex, Hit
from curate.gate.texts import compared_texts, read_texts

__all__ = ["Gate", "GateIndex", "Hit", "compared_texts", "read_texts"]
