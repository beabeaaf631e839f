"""Prompts of synthesis, one per file; placeholders such as {{solution}} are replaced verbatim."""
