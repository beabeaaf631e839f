"""A cache behind a URL: one object for each entry, whole or not there, on a real S3 server."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from curate.errors import CacheDamage, ExternalError, InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.trace import cached_state, measure_checkpoints
from curate.run import Run
from curate.storage.remote import remote
from curate.storage.remote_cache import RemoteCache, check_cache_place, open_cache
from tests.fixtures.s3 import BUCKET, s3_server
from tests.fixtures.scored import PROXY, additions

KEY = ("proxies", "key", "step-000060")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server():
        yield


def _machine(tmp_path: Path, name: str, place: str = "cache") -> RemoteCache:
    return RemoteCache(remote(f"s3://{BUCKET}/{place}"), tmp_path / name)


def _write(cache: RemoteCache, text: str = "weights") -> None:
    with cache.writing(*KEY) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "model").write_text(text)
        (folder / "facts.json").write_text("{}")


def test_what_one_machine_writes_another_one_has(tmp_path: Path) -> None:
    one, other = _machine(tmp_path, "one"), _machine(tmp_path, "other")
    assert other.get(*KEY) is None
    _write(one)
    assert other.names("proxies", "key") == ["step-000060"]
    found = other.get(*KEY)
    assert found is not None
    assert found.is_relative_to(tmp_path / "other")
    assert (found / "part" / "model").read_text() == "weights"
    assert [item.name for item in one.place.items()] == ["proxies/key/step-000060.tar"]
    one.drop(*KEY)
    assert _machine(tmp_path, "third").get(*KEY) is None


def test_two_writers_put_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        _write(_machine(tmp_path, name, place=f"same-{name}"))
        contents.append(remote(f"s3://{BUCKET}/same-{name}").join(*KEY[:-1], KEY[-1] + ".tar").read())
    assert contents[0] == contents[1]
    assert contents[0] is not None


def test_a_damaged_object_is_no_entry_and_is_written_again(tmp_path: Path) -> None:
    cache = _machine(tmp_path, "one", place="damaged")
    _write(cache)
    place = cache.place.join(*KEY[:-1], KEY[-1] + ".tar")
    content = place.read()
    assert content is not None
    for broken in (content[:700], content.replace(b"weights", b"weighty"), b"no archive"):
        place.write(broken)
        other = _machine(tmp_path, f"other-{len(broken)}-{broken[:3]!r}", place="damaged")
        with pytest.warns(CacheDamage):
            assert other.get(*KEY) is None
        _write(other)
        assert place.read() == content


def test_an_entry_that_cannot_be_put_is_not_here_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _machine(tmp_path, "one", place="away")

    def fails(*_: object) -> None:
        raise ExternalError("no way")

    with monkeypatch.context() as patch:
        patch.setattr(type(cache.place), "write", fails)
        with pytest.raises(ExternalError, match="no way"):
            _write(cache)
    assert cache.get(*KEY) is None
    _write(cache)
    assert cache.get(*KEY) is not None


def test_digests_of_local_files_stay_on_their_machine(tmp_path: Path) -> None:
    cache = _machine(tmp_path, "one", place="digests")
    with cache.writing("digests", "key") as folder:
        (folder / "digest").write_text("0")
    assert cache.get("digests", "key") is not None
    assert cache.place.items() == []


def test_what_no_cache_can_be_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_cache_place(f"s3://{BUCKET}/ok")
    with pytest.raises(InputError, match="s3://no-such-bucket/x does not exist"):
        check_cache_place("s3://no-such-bucket/x")
    with pytest.raises(InputError, match="only read"):
        check_cache_place("https://example.org/cache")
    with pytest.raises(InputError, match="every version"):
        check_cache_place("hf://datasets/a/b")
    monkeypatch.setenv("CURATE_CACHE", f"s3://{BUCKET}/from-environment")
    cache = open_cache(None)
    assert isinstance(cache, RemoteCache)
    assert str(cache) == f"s3://{BUCKET}/from-environment"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get("a", "b") is None


def test_the_scores_of_a_proxy_do_not_depend_on_where_its_cache_is(tmp_path: Path) -> None:
    examples = additions()
    here = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, tmp_path / "here"))
    there = measure_checkpoints(examples, PROXY, [MeanLoss()], Run(PROXY, _machine(tmp_path, "one", "scores")))
    assert np.array_equal(there.of(MeanLoss()), here.of(MeanLoss()))
    state = cached_state(examples, PROXY, [MeanLoss()], Run(PROXY, _machine(tmp_path, "other", "scores")))
    assert state.trained
    assert state.measured == state.shards
