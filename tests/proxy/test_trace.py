"""Proxy runs and measures: resumable, shared, cached, and undisturbed by who measures what."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import curate.proxy.trace as trace_module
from curate.component import Component, fingerprint
from curate.errors import CacheDamage, InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.trace import measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness
from tests import ROOT
from tests.fixtures import ranks
from tests.fixtures.scored import PROXY, additions


class Spied(Component):
    """Loss, counting how often it is asked."""

    name: str = "a"

    def measure(self, checkpoint, examples):
        CALLS.append((checkpoint.step, len(examples)))
        return checkpoint.losses()[:, None]


CALLS: list[tuple[int, int]] = []


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "SHARD_ROWS", 16)
    CALLS.clear()


def test_shapes_steps_and_validity(tmp_path: Path) -> None:
    examples = additions()
    found = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))
    values = found.of(MeanLoss())
    assert values.shape == (40, 3, 1)
    assert values.dtype == np.float32
    assert found.schedule.steps.tolist() == [2, 4, 6]
    assert np.isfinite(values).all()
    assert (values[:, -1] < values[:, 0]).mean() > 0.9  # it does learn


def test_everything_comes_from_the_cache_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = additions()
    first = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    assert len(CALLS) == 9
    monkeypatch.setattr(ProxyTraining, "tokenizer", property(lambda self: pytest.fail("tokenizer was made")))
    monkeypatch.setattr(ProxyTraining, "model", property(lambda self: pytest.fail("model was loaded")))
    second = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    assert len(CALLS) == 9
    assert np.array_equal(first.of(Spied()), second.of(Spied()))
    assert first.facts == second.facts


def test_a_measure_added_later_does_not_retrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = additions()
    measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))
    monkeypatch.setattr("curate.training.train", lambda *a, **k: pytest.fail("trained again"))
    found = measure_checkpoints(examples, PROXY, [MeanLoss(), Spied()], Run(PROXY, tmp_path))
    assert np.array_equal(found.of(Spied()), found.of(MeanLoss()))


def test_one_proxy_run_serves_several_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = ProxyTraining.train
    monkeypatch.setattr(ProxyTraining, "train", lambda self: (runs.append(1), real(self))[1])
    scorer = RankAverage(scorers=(LossTrajectory(), FinalLoss(), SAMSharpness(rows=16)))
    scorer.score(additions(), Run(PROXY, tmp_path))
    assert runs == [1]


def test_only_missing_and_damaged_shards_are_measured_again(tmp_path: Path) -> None:
    examples = additions()
    first = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    shard = tmp_path / "measures" / first.proxy_key / fingerprint(Spied()) / "step-000004" / "shard-00001"
    data = bytearray((shard / "values.npy").read_bytes())
    data[-1] ^= 1
    (shard / "values.npy").write_bytes(data)
    CALLS.clear()
    with pytest.warns(CacheDamage):
        again = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    assert CALLS == [(4, 16)]
    assert np.array_equal(again.of(Spied()), first.of(Spied()))


def test_a_measure_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    class Flat(Component):
        def measure(self, checkpoint, examples):
            return checkpoint.losses()

    with pytest.raises(InputError, match=r"Flat\.measure returned shape"):
        measure_checkpoints(additions(), PROXY, [Flat()], Run(PROXY, tmp_path))


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Shards and examples shared out over two gloo ranks by torchrun, against one process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.fixtures.ranks", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads(done.stdout.strip().splitlines()[-1])
    one = ranks.found(tmp_path / "one")
    assert (one["world"], two["world"]) == (1, 2)
    assert len(one["losses"]) == 100
    assert np.allclose(one["losses"], two["losses"], atol=1e-4)
