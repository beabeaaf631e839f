"""--engine and what goes with it."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.commands import Call, Finished, contents


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
        (("--address", "nowhere"), 2, "is no address of a Ray cluster"),
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
    ray_cluster: Any, ray_engine: Any, finished: Finished, tmp_path: Path, call: Call
) -> None:
    ray_engine.close()  # its workers hold the CPUs
    arguments = [*finished.arguments[: finished.arguments.index("--cache")], "--cache", tmp_path / "cache"]
    where = ["--engine", "ray", "--address", ray_cluster.address, "--workers", "2"]
    done = call("run", finished.data, "--out", tmp_path / "out", *arguments, *where)
    assert done.status == 0, done.err
    assert contents(tmp_path / "out") == contents(finished.out)
    again = call("run", finished.data, "--out", tmp_path / "out", *arguments)
    assert "nothing to do" in again.err
