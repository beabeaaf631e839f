"""Copies of remote objects: each content is fetched once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.errors import InputError
from curate.storage.downloads import fetched, listing, local_file, state_of
from curate.storage.remote import Remote, remote
from tests.fixtures.s3 import BUCKET, s3_server


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server():
        yield


def test_an_object_is_fetched_again_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    place = remote(f"s3://{BUCKET}/folder")
    place.join("rows.csv").write(b"a\n1\n")
    fetches = []
    real = Remote.fetch
    monkeypatch.setattr(Remote, "fetch", lambda self, path: (fetches.append(str(self)), real(self, path))[1])
    copies = [fetched(place, listing(place)[0]) for _ in range(2)]
    assert copies[0] == copies[1]
    assert copies[0].is_relative_to(Path(os.environ["CURATE_CACHE"]) / "downloads")
    assert copies[0].name == "rows.csv"
    state = state_of(str(place))
    place.join("rows.csv").write(b"a\n2\n")
    assert fetched(place, listing(place)[0]).read_bytes() == b"a\n2\n"
    assert len(fetches) == 2
    assert state_of(str(place)) != state
    assert local_file(f"s3://{BUCKET}/folder/rows.csv").read_bytes() == b"a\n2\n"


def test_what_is_not_there_or_no_file_is_refused() -> None:
    with pytest.raises(InputError, match="s3://curated/nothing does not exist"):
        listing(remote(f"s3://{BUCKET}/nothing"))
    remote(f"s3://{BUCKET}/one/two.csv").write(b"a\n")
    with pytest.raises(InputError, match="is a folder; name a file"):
        local_file(f"s3://{BUCKET}/one")
