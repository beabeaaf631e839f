"""The two prompts, each a readable file beside this one, and how data is put into them."""

from __future__ import annotations

from importlib import resources

from curate.errors import InputError
from curate.generators.requests import Prompt

__all__ = ["DEFAULT_SOLUTION_PROMPT", "DEFAULT_VARIATION_PROMPT", "chat", "check_prompt"]


def _file(name: str) -> str:
    return (resources.files("augmenters.synthesis") / name).read_text(encoding="utf-8").rstrip("\n")


DEFAULT_VARIATION_PROMPT = _file("variation.txt")
DEFAULT_SOLUTION_PROMPT = _file("solution.txt")


def check_prompt(text: str, slot: str) -> str:
    """`text` if it has the slot {{slot}} exactly once."""
    if text.count("{{" + slot + "}}") != 1:
        raise InputError(
            f"a prompt needs the place {{{{{slot}}}}} exactly once; this one has it {text.count(slot)} times"
        )
    return text


def chat(text: str, slot: str, value: str) -> Prompt:
    """The prompt as one user message. The value is put in as it is: nothing inside it is ever interpreted."""
    before, _, after = text.partition("{{" + slot + "}}")
    return ({"role": "user", "content": before + value + after},)
