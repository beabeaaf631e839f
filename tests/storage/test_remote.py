"""Places behind URLs: what is there, what goes wrong, and what is never shown of an address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.storage.remote import remote
from tests.fixtures.s3 import BUCKET, s3_server
from tests.fixtures.web import served


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server():
        yield


def test_objects_are_put_listed_read_copied_and_removed(tmp_path: Path) -> None:
    place = remote(f"s3://{BUCKET}/some/folder")
    assert place.items() == []
    place.join("a", "b.txt").write(b"text")
    (tmp_path / "c").write_bytes(b"more")
    place.join("c.txt").write(tmp_path / "c")
    assert [(item.name, item.size) for item in place.items()] == [("a/b.txt", 4), ("c.txt", 4)]
    assert [item.name for item in place.join("c.txt").items()] == [""]
    place.join("c.txt").copy(place.join("d.txt"))
    assert place.join("d.txt").read() == b"more"
    assert place.join("d.txt").read(most=1) == b"mo"
    assert place.join("e.txt").read() is None
    assert place.join("d.txt").fetch(tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == b"more"
    assert not place.join("e.txt").fetch(tmp_path / "e")
    assert [str(each) for each in remote(f"s3://{BUCKET}/some/**/*.txt").matching()] == [
        f"s3://{BUCKET}/some/folder/{name}" for name in ("a/b.txt", "c.txt", "d.txt")
    ]
    stamps = {item.stamp for item in place.items() if item.name != "a/b.txt"}
    assert len(stamps) == 1
    place.join("d.txt").remove()
    place.join("d.txt").remove()
    assert place.join("d.txt").read() is None


def test_a_place_that_nothing_opens_says_what_to_do() -> None:
    for url, words in {
        "foo://x/y": r"nothing opens foo://",
        "gs://bucket/x": r"pip install gcsfs",
        "s3://": "names no place",
        "https://me:word@host/x.csv": r"https://host/x.csv: the address holds a name or password",
        "s3://me:word@bucket/x.csv": r"s3://bucket/x.csv: the address holds .*; set AWS_ACCESS_KEY_ID",
        "ftp://me:word@host/x.csv": r"ftp://host/x.csv: the address holds a name or password",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            remote(url)
        assert "word@" not in str(caught.value)


def test_what_cannot_be_reached_is_an_external_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    with pytest.raises(InputError, match="s3://nobody-made-it/x does not exist; check the spelling"):
        remote("s3://nobody-made-it/x").items()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ExternalError, match="cannot be reached"):
        remote(f"s3://{BUCKET}/x").items()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ExternalError, match="no credentials for s3://curated/x; set AWS_ACCESS_KEY_ID"):
        remote(f"s3://{BUCKET}/x").items()
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ExternalError, match=r"http://127.0.0.1:9/x.csv cannot be reached"):
        remote("http://127.0.0.1:9/x.csv?token=secret").items()


def test_a_web_address_is_read_only_and_its_query_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with served(tmp_path) as address:
        place = remote(f"{address}/rows.csv?token=secret")
        (item,) = place.items()
        assert item.size == 8
        assert item.stamp is not None
        assert place.name == "rows.csv"
        assert place.read() == b"a,b\n1,2\n"
        with pytest.raises(InputError, match="only read"):
            place.check_writable()
        with pytest.raises(InputError, match=r"nothing.csv does not exist") as caught:
            remote(f"{address}/nothing.csv?token=secret").items()
        assert "secret" not in str(caught.value) + str(place) + repr(place)


def test_files_of_this_machine_have_urls_too(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("one")
    place = remote(f"file://{tmp_path}")
    assert [(item.name, item.size) for item in place.items()] == [("rows.txt", 3)]
    assert place.join("rows.txt").read() == b"one"
