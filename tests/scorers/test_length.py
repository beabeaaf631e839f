"""Length in characters and in tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.proxy.proxy import Proxy
from curate.run import Run
from scorers import (
    Length,
)
from tests.fixtures.scored import examples_of

# -- length ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": ["aaaa", "b"], "completion": ["xyz", ""]}, [3, np.nan]),
        ({"question": ["aaaa", "b"], "answer": ["xyz", "é"]}, [3, 1]),
        ({"instruction": ["aaaa", "b"], "input": ["i", ""], "output": ["xyz", "q"]}, [3, 1]),
        ({"text": ["aaaa", "b"]}, [4, 1]),
        (
            {
                "messages": [
                    [{"role": r, "content": c} for r, c in turns]
                    for turns in (
                        [("user", "aaaa"), ("assistant", "xy"), ("user", "b"), ("assistant", "zzz")],
                        [("user", "a"), ("assistant", "b")],
                    )
                ]
            },
            [5, 1],
        ),
    ],
    ids=["prompt_completion", "question_answer", "instruction", "text", "messages"],
)
def test_length_in_characters(columns: dict[str, Any], expected: list[float], tmp_path: Path) -> None:
    found = Length().score(pa.table(columns), Run(cache=tmp_path))
    np.testing.assert_array_equal(found.difficulty, expected)
    assert not list(tmp_path.iterdir())


def test_length_in_tokens_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.proxy.training import ProxyTraining

    monkeypatch.setattr(ProxyTraining, "train", lambda self: pytest.fail("trained"))
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, max_length=8)
    examples = examples_of(3, completion=["one", "one two three " * 30, ""])
    run = Run(proxy, tmp_path)
    found = Length(unit="tokens").score(examples, run)
    assert run.facts(examples) is None  # nor does a report speak of a proxy
    assert found.difficulty[0] < found.difficulty[1] <= 8
    assert found.valid.tolist() == [True, True, False]
