"""The key of a request: all that decides its completion, and nothing else."""

from __future__ import annotations

import dataclasses

from curate.generators.requests import Request, Sampling, prompt_digest

REQUEST = Request(({"role": "user", "content": "Why?"},), Sampling(temperature=0.5, stop=("\n",)), seed=7, index=2)


def test_the_key_is_what_it_was_when_completions_were_paid_for() -> None:
    assert REQUEST.key("org/model chat") == "b540f36f92328c5fe458f6492d03a462"
    assert prompt_digest("Why?") == "b190183cf0c9c9010000a13925d005a5"


def test_every_part_counts_and_equal_requests_have_one_key() -> None:
    changes = [
        {"prompt": "Why?"},
        {"prompt": ({"role": "system", "content": "Why?"},)},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(temperature=0.5, stop=("\n",), max_tokens=9)},
        {"seed": 8},
        {"index": 3},
    ]
    requests = [REQUEST, *(dataclasses.replace(REQUEST, **change) for change in changes)]
    keys = [request.key("a") for request in requests] + [REQUEST.key("b")]
    assert len(set(keys)) == len(keys)
    again = Request([{"content": "Why?", "role": "user"}], Sampling(temperature=0.5, stop=("\n",)), seed=7, index=2)
    assert again.key("a") == keys[0]
