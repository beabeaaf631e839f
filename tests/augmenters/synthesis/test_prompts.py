"""Prompts hold what the data says as it is, and have their place for it."""

from __future__ import annotations

from augmenters.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT, chat, check_prompt

# -- prompts --------------------------------------------------------------------------------------------------------


def test_what_looks_like_a_template_inside_the_data_stays_as_it_is() -> None:
    nasty = "{{solution}} {{ 7*7 }} {% raw %} {problem} $x %s \\1 {{problem}}"
    (message,) = chat(DEFAULT_VARIATION_PROMPT, "solution", nasty)
    before, _, after = DEFAULT_VARIATION_PROMPT.partition("{{solution}}")
    assert message["content"] == before + nasty + after
    assert message["content"].count(nasty) == 1


def test_shipped_prompts_have_their_place() -> None:
    assert check_prompt(DEFAULT_VARIATION_PROMPT, "solution")
    assert check_prompt(DEFAULT_SOLUTION_PROMPT, "problem")
