"""Runs that are killed, starved of disk, given a damaged cache or a rival: the same command ends with the same bytes.

Real processes and real signals; see fixtures/processes.py, which runs them.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ended:
    """status: exit status, negative for a signal; text: stdout and stderr."""

    status: int
    text: str


@dataclass(frozen=True)
class Bench:
    """A folder with data, an undisturbed run of it (`whole`) with a cache of its own, and the driver."""

    folder: Path
    driver: Any
    data: Path

    def arguments(self, name: str, cache: str | None = None) -> list[str]:
        settings = ["proxy.steps=6", "proxy.checkpoints=2", "proxy.batch_size=8", "proxy.max_length=48"]
        return [
            *("run", str(self.data), "--out", str(self.folder / name / "out"), "--proxy", "scratch"),
            *(part for setting in settings for part in ("--set", setting)),
            *("--cache", str(self.folder / (cache or name) / "cache")),
        ]

    def run(self, name: str, **request: Any) -> Ended:
        (ended,) = self.run_all([(name, request)])
        return ended

    def run_all(self, requests: list[tuple[str, dict[str, Any]]]) -> list[Ended]:
        lines = []
        for name, request in requests:
            (self.folder / name).mkdir(exist_ok=True)
            given = self.arguments(name, request.pop("cache", None))
            lines.append({"arguments": given, "log": str(self.folder / name / "log"), **request})
        self.driver.stdin.write(json.dumps(lines) + "\n")
        self.driver.stdin.flush()
        return [Ended(**answer) for answer in json.loads(self.driver.stdout.readline())]

    def results(self, name: str) -> dict[str, bytes]:
        """Bytes of data/ and tables/."""
        out = self.folder / name / "out"
        found = [path for part in ("data", "tables") for path in sorted((out / part).iterdir())]
        return {str(path.relative_to(out)): path.read_bytes() for path in found}

    def events(self, name: str) -> list[str]:
        """What was renamed into place by the runs of this name, in order."""
        log = self.folder / name / "log"
        return log.read_text().splitlines() if log.exists() else []

    def leftovers(self, name: str) -> list[str]:
        """Half-written files and folders, wherever they are."""
        return [str(path) for path in (self.folder / name).rglob("*") if ".partial-" in path.name]

    def check_finished(self, name: str) -> None:
        """The result is that of the undisturbed run, nothing half-written is left and no finished work was redone."""
        assert self.results(name) == self.results("whole")
        assert (self.folder / name / "out" / "run.json").is_file()
        assert self.leftovers(name) == []
        entries = [event for event in self.events(name) if re.search(r"/cache/(measures|proxies|rows)/", event)]
        made = [event for event in entries if ".dropped-" not in event]
        assert len(made) == len(set(made))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="curate-faults-"))
    rng = random.Random(0)
    with (folder / "data.jsonl").open("w") as file:
        for i in range(300):
            a, b = rng.randrange(100), rng.randrange(1000)
            row = {
                "prompt": f"What is {a} plus {b}? ({i})",
                "completion": f"{a} + {b} = {a + b}",
                "source": "xy"[i % 2],
            }
            file.write(json.dumps(row) + "\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fixtures.processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as driver:
        bench = Bench(folder, driver, folder / "data.jsonl")
        whole = bench.run("whole")
        assert whole.status == 0, whole.text
        yield bench
        assert driver.stdin is not None
        driver.stdin.close()
        driver.wait(30)
    shutil.rmtree(folder)


def test_the_bench_sees_every_stage(bench: Bench) -> None:
    """Or the kills below would not hit what they name."""
    events = "\n".join(bench.events("whole"))
    for place in (r"/rows/", r"/step-000003$", r"/step-000006/shard-00004$", r"/out/tables$", r"/out/run.json$"):
        assert re.search(place, events, re.MULTILINE), place


MOMENTS = {
    "while the first checkpoint is stored": ("before", r"/step-000003$"),
    "between two checkpoints": ("after", r"/proxies/.*/step-000003$"),
    "in the middle of measuring": ("before", r"/step-000006/shard-00002$"),
    "between two parts of the result": ("after", r"/out/tables$"),
    "before the result is declared finished": ("before", r"/out/run.json$"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on(moment: str, bench: Bench) -> None:
    when, place = MOMENTS[moment]
    name = f"killed-{list(MOMENTS).index(moment)}"
    died = bench.run(name, die={"when": when, "at": place, "signal": 9})
    assert died.status == -9, died.text
    assert not (bench.folder / name / "out" / "run.json").exists()
    again = bench.run(name)
    assert again.status == 0, again.text
    bench.check_finished(name)


def test_killed_again_and_again(bench: Bench) -> None:
    for shard in range(5):
        died = bench.run("often", die={"when": "after", "at": rf"/step-000003/shard-0000{shard}$", "signal": 9})
        assert died.status == -9, died.text
    assert bench.run("often").status == 0
    bench.check_finished("often")


@pytest.mark.parametrize("sent", [15, 2])
def test_a_terminated_run_goes_on(sent: int, bench: Bench) -> None:
    name = f"signal-{sent}"
    for place in (r"/proxies/.*/step-000003$", r"/step-000006/shard-00001$", r"/out/tables$"):
        ended = bench.run(name, die={"when": "before", "at": place, "signal": sent})
        assert ended.status == 128 + sent, ended.text
        assert ended.text.splitlines()[-1].startswith("curate: ")
        assert bench.leftovers(name) == []  # unlike a killed run it had time to clean up
    assert bench.run(name).status == 0
    bench.check_finished(name)


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(10))
def test_killed_at_a_random_moment(attempt: int, bench: Bench) -> None:
    rng = random.Random(attempt)
    name = f"random-{attempt}"
    ended = bench.run(name, seconds=rng.uniform(0.1, 6.0))
    assert ended.status in (-9, 0), ended.text
    assert bench.run(name).status == 0
    bench.check_finished(name)


@pytest.mark.long
def test_killed_at_every_rename(bench: Bench) -> None:
    """One cache and one folder, killed before and after each rename there is."""
    places = [re.escape(event.split(" ", 1)[1].replace("/whole/", "/all/")) for event in bench.events("whole")]
    for place in places:
        for when in ("before", "after"):
            ended = bench.run("all", die={"when": when, "at": f"{place}$", "signal": 9})
            assert ended.status in (-9, 0), ended.text
    assert bench.run("all").status == 0
    assert bench.results("all") == bench.results("whole")
    assert bench.leftovers("all") == []


# --- disk full -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["anything", "the end of an array", "weights", "optimizer state"])
def test_a_full_disk_while_the_cache_is_filled(victim: str, bench: Bench) -> None:
    cache = bench.folder / "whole" / "cache"
    array = next(cache.glob("rows/*/valid.npy")).stat().st_size
    weights = next(cache.glob("proxies/*/step-000003/model.safetensors")).stat().st_size
    limits = {"anything": 0, "the end of an array": array - 1, "weights": weights - 1, "optimizer state": weights}
    name = f"full-{list(limits).index(victim)}"
    ended = bench.run(name, limit=limits[victim])
    assert ended.status == 3, ended.text
    assert "make room" in ended.text.splitlines()[-1]
    assert bench.leftovers(name) == []
    assert not (bench.folder / name / "out").exists()
    assert bench.run(name).status == 0
    bench.check_finished(name)


@pytest.mark.parametrize("victim", ["tables/split.parquet", "data/train-00000-of-00001.parquet", "report.html"])
def test_a_full_disk_while_the_result_is_written(victim: str, bench: Bench) -> None:
    name = f"out-{victim.split('.')[0].replace('/', '-')}"
    size = (bench.folder / "whole" / "out" / victim).stat().st_size
    # The report's size varies a little with the costs it shows, and is far above that of all before it.
    ended = bench.run(name, cache="whole", limit=size // 2 if victim == "report.html" else size - 1)
    out = bench.folder / name / "out"
    assert ended.status == 3, ended.text
    assert not (out / victim).exists()
    assert not (out / "run.json").exists()
    assert bench.leftovers(name) == []
    assert bench.run(name, cache="whole").status == 0
    bench.check_finished(name)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("pattern", ["rows/*/tokens.npy", "measures/*/*/step-000003/shard-00001/values.npy"])
def test_a_damaged_cache_is_found_and_mended(pattern: str, how: str, bench: Bench) -> None:
    name = f"damaged-{how}-{pattern.split('/')[0]}"
    cache = bench.folder / name / "cache"
    shutil.copytree(bench.folder / "whole" / "cache", cache)
    (path,) = cache.glob(pattern)
    _damage(path, how)
    ended = bench.run(name)
    assert ended.status == 0, ended.text
    assert "warning: cache entry" in ended.text
    assert "damaged" in ended.text
    assert bench.results(name) == bench.results("whole")
    assert len(list((cache / "damaged").iterdir())) == 1
    (path,) = cache.glob(pattern)
    assert "warning: cache entry" not in bench.run(name, cache=name).text


@pytest.mark.parametrize("step", ["step-000003", "step-000006"])
def test_damaged_weights_are_trained_again(step: str, bench: Bench) -> None:
    name = f"weights-{step}"
    cache = bench.folder / name / "cache"
    shutil.copytree(bench.folder / "whole" / "cache", cache)
    shutil.rmtree(cache / "measures")
    (path,) = cache.glob(f"proxies/*/{step}/model.safetensors")
    before = path.read_bytes()
    _damage(path, "flip")
    ended = bench.run(name)
    assert ended.status == 0, ended.text
    assert "damaged" in ended.text
    assert path.read_bytes() == before
    assert bench.results(name) == bench.results("whole")


def _damage(path: Path, how: str) -> None:
    if how == "remove":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "flip" else content[:-1])


# --- company -------------------------------------------------------------------------------------------------------


def test_two_runs_share_a_cache(bench: Bench) -> None:
    """One trains, the other waits for it, and nothing is made twice."""
    one, two = bench.run_all([("one", {"cache": "shared"}), ("two", {"cache": "shared"})])
    assert (one.status, two.status) == (0, 0), one.text + two.text
    assert bench.results("one") == bench.results("two") == bench.results("whole")
    assert ("another run is training" in one.text) != ("another run is training" in two.text)
    made = [e for name in ("one", "two") for e in bench.events(name) if re.search(r"/cache/(measures|proxies)/", e)]
    assert len(made) == len(set(made)) > 10


def test_a_killed_rival_does_not_block(bench: Bench) -> None:
    place = r"/step-000006/shard-00000$"
    died, lived = bench.run_all(
        [
            ("dies", {"cache": "rivals", "die": {"when": "before", "at": place, "signal": 9}}),
            ("lives", {"cache": "rivals"}),
        ]
    )
    assert lived.status == 0, lived.text
    assert died.status in (-9, 0)
    assert bench.results("lives") == bench.results("whole")


@pytest.mark.skipif(sys.platform != "linux" and os.getuid() == 0, reason="nothing is read-only to root")
@pytest.mark.parametrize("part", ["cache", "out"])
def test_a_read_only_place(part: str, bench: Bench) -> None:
    name = f"read-only-{part}"
    place = bench.folder / name / part
    place.mkdir(parents=True)
    place.chmod(0o555)
    mortal = os.getuid() == 0
    ended = bench.run(name, mortal=mortal)
    assert ended.status == 3, ended.text
    assert str(place) in ended.text.splitlines()[-1]
    assert "writable" in ended.text
    assert "train the proxy" not in ended.text
    place.chmod(0o755)
    assert bench.run(name, mortal=mortal).status == 0
    bench.check_finished(name)
