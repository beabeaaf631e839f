"""--engine and what goes with it."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.writers import write_parquet_shards
from tests import ROOT
from tests.fixtures.commands import TINY, Call, Finished, _rows, contents
from tests.fixtures.ray_cluster import own_head
from tests.fixtures.s3 import BUCKET, s3_server


def _rows_of(workers: list[dict[str, Any]]) -> Counter[str]:
    """Stage -> rows that these workers of an engine's record have done of it."""
    return sum(
        (Counter({stage: done["rows"] for stage, done in each["stages"].items()}) for each in workers), Counter()
    )


@pytest.mark.parametrize("command", ["run", "score", "synthesize", "validate", "plan", "gate"])
def test_options_of_an_engine_are_refused_without_it(command: str, data: Path, tmp_path: Path, call: Call) -> None:
    out = () if command in ("plan", "gate") else ("--out", tmp_path / "o.parquet")
    model = ("--model", "m") if command == "validate" else ()
    done = call(command, data, *out, *model, "--workers", "2")
    assert done.status == 2
    assert "--workers is for --engine ray" in done.error


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (("--workers", "0"), 2, "--workers 0"),
        (("--address", "nowhere"), 2, "is not an address of a Ray cluster"),
        (("--address", "127.0.0.1:9"), 3, "no Ray cluster answers at 127.0.0.1:9"),
    ],
)
def test_bad_settings_are_one_line(
    given: tuple[str, ...], status: int, words: str, data: Path, finished: Finished, tmp_path: Path, call: Call
) -> None:
    done = call("run", data, "--out", tmp_path / "o", *finished.arguments, "--engine", "ray", *given)
    assert done.status == status
    assert words in done.error
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_a_cluster_leaves_the_same_bytes(
    ray_cluster: Any, ray_engine: Any, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows as polars writes them, with views of strings; in small portions, so that workers get all kinds of work."""
    monkeypatch.setattr("curate.proxy.trace.SHARD_ROWS", 16)
    monkeypatch.setattr("curate.tokenization.shards.SHARD_ROWS", 16)
    monkeypatch.setattr("curate.curated.write_parquet_shards", partial(write_parquet_shards, rows_per_shard=20))
    data = tmp_path / "data.arrow"
    pl.DataFrame(_rows()).write_ipc(data)
    assert pa.string_view() in pa.ipc.open_file(data).schema.types
    local = call("run", data, "--out", tmp_path / "local", *TINY, "--cache", tmp_path / "local-cache")
    assert local.status == 0, local.err

    def opened(settings: dict[str, Any]) -> AbstractContextManager[Any]:
        assert settings == {"address": ray_cluster.address, "workers": 2, "device": None}
        return nullcontext(ray_engine)  # whose workers are up

    monkeypatch.setattr("curate.cli.engine._made", opened)
    before = ray_engine.record().get("workers", [])
    arguments = [*TINY, "--cache", tmp_path / "cache"]
    where = ["--engine", "ray", "--address", ray_cluster.address, "--workers", "2"]
    done = call("run", data, "--out", tmp_path / "out", *arguments, *where)
    assert done.status == 0, done.err
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    workers = json.loads((tmp_path / "out" / "run.json").read_text())["engine"]["workers"]
    files = list((tmp_path / "out" / "data").iterdir())
    done_now, done_before = _rows_of(workers), _rows_of(before)
    assert done_now["tokenize"] - done_before["tokenize"] == 40 * 2  # for their lengths, then for the tokens
    assert done_now["measure"] - done_before["measure"] == 40 * 2  # at two checkpoints
    assert len(files) > 1
    assert done_now["write"] - done_before["write"] == sum(pq.read_metadata(file).num_rows for file in files)
    measured = [worker["stages"]["measure"] for worker in workers if "measure" in worker["stages"]]
    assert all(each["rows_per_second"] > 0 and each["tokens_per_second"] > 0 for each in measured)
    assert all(Path(worker["log"]).is_absolute() for worker in workers)
    planned = call("plan", data, *arguments, "--seed", "1", *where)
    assert planned.status == 0, planned.err
    assert "with 2 workers, at the rate measured on one; the cluster has 3 nodes, 0 GPUs and 2 CPUs" in planned.out
    again = call("run", data, "--out", tmp_path / "out", *arguments)
    assert "nothing to do" in again.err


_FILLS = """
import sys, numpy as np
from curate.engine import Ray
with Ray(address=sys.argv[1], workers=1) as engine:
    held = [engine.share(np.zeros(40 << 20, np.uint8)) for _ in range(3)]
"""


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_cluster_with_a_token_a_cache_at_a_url_and_a_full_store(finished: Finished, tmp_path: Path) -> None:
    """With the token a run leaves the bytes of one here, in a cache that workers reach by its URL; without it, nothing.

    A node that may not spill to its disk stands for one whose disk is full.
    """
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'curate-lm[ray]'")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    arguments = [*finished.arguments[: finished.arguments.index("--cache")], "--cache", f"s3://{BUCKET}/cache"]

    def call(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)

    def run(out: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        where = ["--engine", "ray", "--address", address, "--workers", "2"]
        return call(["-m", "curate", "run", str(finished.data), "--out", str(out), *arguments, *where], environment)

    with (
        s3_server() as s3,
        own_head({**s3, **token}, 2, {"local_fs_capacity_threshold": 0.0001}) as (address, environment),
    ):
        for wrong in ({"RAY_AUTH_TOKEN": "f" * 64}, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}):
            done = run(tmp_path / "wrong", {**environment, **wrong})
            assert done.returncode == 3, done.stderr
            lines = [line for line in done.stderr.splitlines() if "does not let this process in" in line]
            assert lines == done.stderr.splitlines()[-1:]
            assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in lines[0]
            assert not (tmp_path / "wrong").exists()
        done = run(tmp_path / "out", environment)
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out") == contents(finished.out)
        assert "InvalidAuthToken" not in done.stderr
        full = call(["-c", _FILLS, address], environment)
        assert full.returncode == 1
        assert "ExternalError: Ray's object store is full, and its disk has no room" in full.stderr
