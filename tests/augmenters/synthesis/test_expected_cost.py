"""The cost that variants are expected to have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from augmenters.synthesis.expected_cost import CHARACTERS_PER_TOKEN, expected_tokens
from augmenters.synthesis.variant_group import VariantGroup
from tests.fixtures.variants import groups, settings, sum_row


def test_what_is_expected_is_proposals_and_every_sample() -> None:
    (group,) = groups(1, variants=2)
    solution = len(group.source.solution) / CHARACTERS_PER_TOKEN
    problem = len(group.source.problem) / CHARACTERS_PER_TOKEN
    generated, prompts = expected_tokens(group)
    assert generated == pytest.approx(2 * (problem + 8 * min(1.5 * solution, 10)))
    assert prompts > 2 * 8 * problem
    group.variants[0].reject("asks nothing")
    assert expected_tokens(group)[0] == pytest.approx(generated / 2)


def test_the_second_route_and_the_parents_cost_more() -> None:
    plain = expected_tokens(sum_row(second=None))[0]
    assert plain < expected_tokens(sum_row())[0] < expected_tokens(sum_row(parents=(1, 4)))[0]
    assert expected_tokens(VariantGroup(groups(1)[0].source, replace(settings(1), context="sampled"), 0))[0] > plain
