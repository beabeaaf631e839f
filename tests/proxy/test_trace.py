"""Proxy runs and measures: resumable, shared, cached, and undisturbed by who measures what."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import curate.proxy.trace as trace_module
from curate.component import Component, fingerprint
from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import CacheDamage, InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.storage.cache import Cache
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness
from tests import ROOT

# In float32 on every machine: exact comparisons below are of one arithmetic.
PROXY = Proxy(model="scratch", steps=6, checkpoints=3, batch_size=8, max_length=64, precision="float32")


def _examples(n: int = 40) -> Examples:
    rows = [(f"What is {i} plus {i % 7}?", f"{i} + {i % 7} = {i + i % 7}") for i in range(n)]
    return read(pa.table({"prompt": [a for a, _ in rows], "completion": [b for _, b in rows]})).examples


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
    examples = _examples()
    found = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))
    values = found.of(MeanLoss())
    assert values.shape == (40, 3, 1)
    assert values.dtype == np.float32
    assert found.schedule.steps.tolist() == [2, 4, 6]
    assert np.isfinite(values).all()
    assert (values[:, -1] < values[:, 0]).mean() > 0.9  # it does learn


def test_everything_comes_from_the_cache_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples()
    first = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    assert len(CALLS) == 9
    monkeypatch.setattr(ProxyTraining, "tokenizer", property(lambda self: pytest.fail("tokenizer was made")))
    monkeypatch.setattr(ProxyTraining, "model", property(lambda self: pytest.fail("model was loaded")))
    second = measure_checkpoints(examples, PROXY, [Spied()], Run(PROXY, tmp_path))
    assert len(CALLS) == 9
    assert np.array_equal(first.of(Spied()), second.of(Spied()))
    assert first.facts == second.facts


def test_a_measure_added_later_does_not_retrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples()
    measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))
    monkeypatch.setattr("curate.training.train", lambda *a, **k: pytest.fail("trained again"))
    found = measure_checkpoints(examples, PROXY, [MeanLoss(), Spied()], Run(PROXY, tmp_path))
    assert np.array_equal(found.of(Spied()), found.of(MeanLoss()))


def test_one_proxy_run_serves_several_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = ProxyTraining.train
    monkeypatch.setattr(ProxyTraining, "train", lambda self: (runs.append(1), real(self))[1])
    scorer = RankAverage(scorers=(LossTrajectory(), FinalLoss(), SAMSharpness(rows=16)))
    scorer.score(_examples(), Run(PROXY, tmp_path))
    assert runs == [1]


def test_a_perturbing_measure_leaves_the_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    examples = _examples()
    alone = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path / "a")).of(MeanLoss())
    both = measure_checkpoints(examples, PROXY, [SAMSharpness(rho=5.0), MeanLoss()], Run(PROXY, tmp_path / "b"))
    assert np.array_equal(both.of(MeanLoss()), alone)
    pair = both.of(SAMSharpness(rho=5.0))
    assert np.array_equal(pair[:, :, 0], alone[:, :, 0])
    assert pair[:, -1, 1].mean() > pair[:, -1, 0].mean()


def test_sharpness_against_an_independent_oracle(tmp_path: Path) -> None:
    """Loss at w + rho g / ||g|| with g from a batch-of-one loop over Hugging Face's own loss."""
    from curate.models.scratch import scratch_model, scratch_tokenizer

    examples = _examples(12)
    run = Run(PROXY, tmp_path)
    pair = measure_checkpoints(examples, PROXY, [SAMSharpness(rho=0.7)], run).of(SAMSharpness(rho=0.7))[:, -1]
    proxy_training = ProxyTraining(examples, PROXY, run.context)
    tokens = proxy_training.tokenized.tokens
    model = scratch_model(scratch_tokenizer(examples, proxy_training.seed), 64, proxy_training.seed)
    from curate.training.checkpoint import load_weights

    load_weights(model, proxy_training.checkpoint(6))

    def row_loss(i: int) -> torch.Tensor:
        part = tokens.slice(i, i + 1)
        ids = torch.from_numpy(part.ids.astype(np.int64))[None]
        labels = torch.where(torch.from_numpy(part.supervised)[None], ids, -100)
        return model(input_ids=ids, labels=labels).loss

    counts = tokens.completion_tokens
    total = sum(row_loss(i) * int(counts[i]) for i in range(12)) / int(counts.sum())
    total.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
    with torch.no_grad():
        flat = [row_loss(i).item() for i in range(12)]
        for p in model.parameters():
            p += 0.7 * p.grad / norm
        uphill = [row_loss(i).item() for i in range(12)]
    assert np.allclose(pair[:, 0], flat, atol=1e-4)
    assert np.allclose(pair[:, 1], uphill, atol=1e-4)


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples()
    whole = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path / "whole"))
    cache = Cache(tmp_path / "killed")
    real_put = Cache.put

    def dies(self: Cache, *key: str, write) -> Path:
        path = real_put(self, *key, write=write)
        if key[-1] == "step-000004":
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(Cache, "put", dies)
    with pytest.raises(KeyboardInterrupt):
        measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, cache))
    monkeypatch.setattr(Cache, "put", real_put)
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


def test_only_missing_and_damaged_shards_are_measured_again(tmp_path: Path) -> None:
    examples = _examples()
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


def test_losses_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    """The same checkpoint measures a row alike wherever it stands: only batching differs."""
    examples = _examples()
    run = Run(PROXY, tmp_path)
    values = measure_checkpoints(examples, PROXY, [MeanLoss()], run).of(MeanLoss())[:, -1, 0]
    proxy_training = ProxyTraining(examples, PROXY, run.context)
    from curate.models.scoring import LossEngine

    order = np.random.default_rng(0).permutation(40)
    from curate.training.checkpoint import load_weights

    load_weights(proxy_training.model, proxy_training.checkpoint(6))
    shuffled = LossEngine(proxy_training.model, precision="float32").losses(proxy_training.tokenized.tokens.take(order))
    assert np.allclose(shuffled, values[order], atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"learning_rate": 0.01}, {"max_length": 48}, {"template": "alpaca"}],
)
def test_what_changes_the_numbers_changes_the_key(tmp_path: Path, change: dict) -> None:
    examples = _examples(8)
    seed = change.pop("seed", 0)
    proxy = Proxy(**{**PROXY.model_dump(), **change})
    one = ProxyTraining(examples, PROXY, Run(PROXY, tmp_path).context).key
    other = ProxyTraining(examples, proxy, Run(proxy, tmp_path, seed=seed).context).key
    assert one != other


def test_data_changes_the_key_and_a_copy_of_it_does_not(tmp_path: Path) -> None:
    keys = [
        ProxyTraining(examples, PROXY, Run(PROXY, tmp_path).context).key
        for examples in (_examples(8), _examples(8), _examples(9))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_all_rows_invalid_is_refused(tmp_path: Path) -> None:
    examples = read(pa.table({"prompt": ["a", "b"], "completion": ["", ""]})).examples
    with pytest.raises(InputError, match="all 2 rows are invalid"):
        measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path))


def test_a_measure_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    class Flat(Component):
        def measure(self, checkpoint, examples):
            return checkpoint.losses()

    with pytest.raises(InputError, match=r"Flat\.measure returned shape"):
        measure_checkpoints(_examples(), PROXY, [Flat()], Run(PROXY, tmp_path))


def test_a_diverging_proxy_saves_the_ids_of_its_rows(tmp_path: Path) -> None:
    wild = Proxy(**{**PROXY.model_dump(), "learning_rate": 1e18, "max_grad_norm": 1e18})
    with pytest.raises(InputError, match="row ids saved in") as caught:
        measure_checkpoints(_examples(), wild, [MeanLoss()], Run(wild, tmp_path))
    path = Path(str(caught.value).split("row ids saved in ")[1])

    ids = json.loads(path.read_text())["example_ids"]
    assert ids
    assert set(ids) <= set(_examples().ids.to_pylist())


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Shards and examples shared out over two gloo ranks by torchrun, against one process."""
    driver = ["-m", "tests.fixtures.ranks"]
    results = []
    for command in (
        [sys.executable, *driver, str(tmp_path / "one")],
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(*driver, str(tmp_path / "two")),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    one, two = results
    assert (one["world"], two["world"]) == (1, 2)
    assert len(one["losses"]) == 100
    assert np.allclose(one["losses"], two["losses"], atol=1e-4)


def test_a_proxy_begun_under_other_numerics_is_not_begun_anew_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(threads: int) -> list[str]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        measure_checkpoints(_examples(), PROXY, [MeanLoss()], Run(PROXY, tmp_path, progress=Progress("lines")))
        return [line for line in capsys.readouterr().err.splitlines() if "the cache holds" in line]

    assert noted(1) == []
    (line,) = noted(2)
    assert "3 of 3 checkpoints" in line
    assert "threads 1 instead of 2" in line
    assert "OMP_NUM_THREADS=1" in line
    assert noted(1) == noted(2) == [], "both are in the cache now, and either is continued"
    assert len(noted(3)) == 2
