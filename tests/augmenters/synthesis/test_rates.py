"""Funnel, rates of checks and yield of a synthesis."""

from __future__ import annotations

from pathlib import Path

import pytest

from augmenters.synthesis.checks.registry import CHECKS
from augmenters.synthesis.rates import check_rates, costs, funnel, yields
from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.variant_group import VariantGroup
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion
from tests.fixtures.variants import answer, groups, settings, sum_row


def served(made: list[VariantGroup], tmp_path: Path) -> SynthesisQueue:
    queue = SynthesisQueue(made, RequestStore(tmp_path / "r.sqlite"), "model")
    queue.replay()
    while requests := queue.take(5):
        for request in requests:
            queue.done(request, answer(request))
    queue.close()
    return queue


def test_the_stages_add_up_to_all_requests_and_tokens(tmp_path: Path) -> None:
    queue = served(groups(12), tmp_path)
    variants = [variant for group in queue.groups for variant in group.variants]
    kept = sum(variant.outcome == "kept" for variant in variants)
    made = yields(queue, variants, kept)
    assert sum(each["requests"] for each in made["cost"].values()) == queue.made
    assert sum(each["generated"] for each in made["cost"].values()) == costs(queue)["tokens"]["generated"]
    rates = check_rates(settings(), variants)
    assert rates["band"]["requests"] == made["cost"]["solving"]["requests"]
    assert rates["band"]["generated"] == made["cost"]["solving"]["generated"]
    assert rates["band"]["made"] - rates["band"]["failed"] == kept  # nothing else turns any away here
    assert made["per request"] == pytest.approx(kept / queue.made)
    assert made["per 1,000 generated tokens"] == pytest.approx(1000 * kept / queue.completion_tokens)
    counts = [count for _, count in funnel(settings(), variants)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == kept


def test_checks_are_counted_where_they_were_made() -> None:
    group = sum_row()
    asked = group.begin()
    while asked:
        request, ticket = asked.pop(0)
        text = "```text\nA clerk puts 1 file beside 1 other file. What is the number of files?\n```"
        said = text if ticket.kind == "proposal" else "1 + 7 = 9, so \\boxed{2}" if ticket.sample < 3 else "\\boxed{0}"
        asked += group.receive(ticket, request, Completion(said, "stop", 1, 1))
    rates = check_rates(group.settings, group.variants)
    assert set(rates) == {*CHECKS, "band"}
    counted = {check: tuple(rate[key] for key in ("made", "failed", "requests")) for check, rate in rates.items()}
    assert counted["grounded"] == (1, 1, 0)
    assert counted["different"] == (1, 0, 0)
    assert counted["band"] == (1, 0, len(group.variants[0].drawn))
    assert counted["second_route"] == (0, 0, 0)
    assert rates["grounded"]["reason"] == group.variants[0].outcome
    steps = dict(funnel(group.settings, group.variants))
    assert (steps["kept by the band"], steps["past the checks of solutions"]) == (1, 0)
