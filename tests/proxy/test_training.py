"""Training of the proxy: named by what it depends on, resumed after a kill, diagnosed where it diverges."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.console.progress import Progress
from curate.data.readers import read
from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.storage.cache import Cache
from tests.fixtures.scored import PROXY, additions


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = additions()
    whole = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path / "whole"))
    cache = Cache(tmp_path / "killed")
    real_writing = Cache.writing

    @contextmanager
    def dies(self: Cache, *key: str) -> Iterator[Path]:
        with real_writing(self, *key) as folder:
            yield folder
        if key[-1] == "step-000004":
            raise KeyboardInterrupt

    monkeypatch.setattr(Cache, "writing", dies)
    with pytest.raises(KeyboardInterrupt):
        measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, cache))
    monkeypatch.setattr(Cache, "writing", real_writing)
    state = cached_state(examples, PROXY, [MeanLoss()], Run(PROXY, Cache(cache.root)))
    assert state.checkpoints == [2, 4]
    assert not state.trained
    trained = []
    from curate import training

    real_train = training.train

    def spy(*args, advance, **kwargs):
        return real_train(*args, advance=lambda k: (trained.append(k), advance(k)), **kwargs)

    monkeypatch.setattr(training, "train", spy)
    again = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, Cache(cache.root)))
    assert sum(trained) == 2
    assert np.array_equal(again.of(MeanLoss()), whole.of(MeanLoss()))
    assert not [p for p in (cache.root / "proxies" / again.proxy_key).iterdir() if p.name.startswith("resume")]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"learning_rate": 0.01}, {"max_length": 48}, {"template": "alpaca"}],
)
def test_what_changes_the_numbers_changes_the_key(tmp_path: Path, change: dict) -> None:
    examples = additions(8)
    seed = change.pop("seed", 0)
    proxy = Proxy(**{**PROXY.model_dump(), **change})
    one = ProxyTraining(examples, PROXY, Run(PROXY, tmp_path).context).key
    other = ProxyTraining(examples, proxy, Run(proxy, tmp_path, seed=seed).context).key
    assert one != other


def test_data_changes_the_key_and_a_copy_of_it_does_not(tmp_path: Path) -> None:
    keys = [
        ProxyTraining(examples, PROXY, Run(PROXY, tmp_path).context).key
        for examples in (additions(8), additions(8), additions(9))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_all_rows_invalid_is_refused(tmp_path: Path) -> None:
    examples = read(pa.table({"prompt": ["a", "b"], "completion": ["", ""]})).examples
    with pytest.raises(InputError, match="all 2 rows are invalid"):
        measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))


def test_a_diverging_proxy_saves_the_ids_of_its_rows(tmp_path: Path) -> None:
    wild = Proxy(**{**PROXY.model_dump(), "learning_rate": 1e18, "max_grad_norm": 1e18})
    with pytest.raises(InputError, match="row ids saved in") as caught:
        measure_checkpoints(additions(), wild, [MeanLoss()], Run(wild, tmp_path))
    path = Path(str(caught.value).split("row ids saved in ")[1])

    ids = json.loads(path.read_text())["example_ids"]
    assert ids
    assert set(ids) <= set(additions().ids.to_pylist())


def test_a_proxy_begun_under_other_numerics_is_not_begun_anew_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(threads: int) -> list[str]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        measure_checkpoints(additions(), PROXY, [MeanLoss()], Run(PROXY, tmp_path, progress=Progress("lines")))
        return [line for line in capsys.readouterr().err.splitlines() if "the cache holds" in line]

    assert noted(1) == []
    (line,) = noted(2)
    assert "3 of 3 checkpoints" in line
    assert "threads 1 instead of 2" in line
    assert "OMP_NUM_THREADS=1" in line
    assert noted(1) == noted(2) == [], "both are in the cache now, and either is continued"
    assert len(noted(3)) == 2
