"""What making the data of an arm costs, also where the cache holds part of it."""

from __future__ import annotations

import json
from pathlib import Path

import curate.storage.cache
from augmenters import Subset
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.validation.arms import Arms
from curate.validation.config import Addition
from scorers import LossTrajectory
from tests.fixtures.validation import (
    loaded,
    pipeline,
    settings,
)


def test_cost_of_curation_is_that_of_the_whole_proxy_also_where_it_is_cached(
    tmp_path: Path, small_models: None
) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    scored = pipeline(scorer=LossTrajectory(), proxy=proxy)
    half_of = scored.model_copy(update={"augmenters": (Subset(size=0.5),)})
    given = settings(pipeline=scored, additions=(Addition(name="half", recipe=half_of),))
    first, later = (
        Arms(loaded(), given, tmp_path / name, Run(proxy, tmp_path / "cache"), None) for name in ("first", "later")
    )
    one, two = first.get("hard", 0).curation, later.get("hard", 0).curation
    assert one is not None
    assert two is not None
    assert two["tokens"] == one["tokens"] > 0
    assert (one["cached"], two["cached"]) == (False, True)
    assert one["seconds"] > 0
    assert two["seconds"] is None  # nobody wrote down how long the measuring took
    half = first.get("half", 0).curation
    assert half is not None
    assert half["tokens"] == one["tokens"]


def test_a_proxy_trained_by_a_process_that_was_killed_counts_in_seconds(tmp_path: Path, small_models: None) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    run = Run(proxy, tmp_path / "cache")
    proxy_training = ProxyTraining(loaded().examples, proxy, run.context)
    proxy_training.train()
    facts = proxy_training.facts()
    assert facts["seconds"] > 0
    for path in (tmp_path / "cache").glob("proxies/*/step-*/facts.json"):
        record = json.loads(path.read_text()) | {"seconds": 1000.0}
        path.write_text(json.dumps(record))
        manifest = json.loads((path.parent / "manifest.json").read_text())
        manifest["facts.json"] = curate.storage.cache._checksum(path)
        (path.parent / "manifest.json").write_text(json.dumps(manifest))
    given = settings(pipeline=pipeline(scorer=LossTrajectory(), proxy=proxy))
    cost = Arms(loaded(), given, tmp_path / "out", Run(proxy, tmp_path / "cache"), None).get("hard", 0).curation
    assert cost is not None
    assert cost["seconds"] > 1000


def test_the_hard_arm_costs_the_same_when_a_control_is_made_first(tmp_path: Path, small_models: None) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    given = settings(pipeline=pipeline(scorer=LossTrajectory(), proxy=proxy))
    arms = Arms(loaded(), given, tmp_path / "out", Run(proxy, tmp_path / "cache"), None)
    arms.get("random", 0)
    cost = arms.get("hard", 0).curation
    assert cost is not None
    assert cost["seconds"] > 0
    assert cost["tokens"] > 0
