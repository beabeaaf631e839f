"""Paths given by the user: what can never be written is refused before any work, in one line."""

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from curate import Pipeline
from curate.cli import doctor
from curate.cli.main import main
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import InputError
from curate.storage.cache import Cache, local_cache
from curate.storage.places import (
    check_cache,
    check_place,
    expanded,
    files_under,
    holds_signature,
    is_url,
    local_path,
    meant_url,
    without_secrets,
)
from curate.verify.sandbox_limits import remove_folder
from scorers import Length

ROWS = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "dd"}\n{"prompt": "e", "completion": "fff"}\n'


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


IMPOSSIBLE: dict[str, tuple[Callable[[Path], str | Path], str]] = {
    "a URL": (lambda folder: "s3://bucket/x", "is a URL"),
    "a dataset URL": (lambda folder: "hf://datasets/a/b", "is a URL"),
    "a link to nothing": (_link, "link to nothing"),
    "below a link to nothing": (lambda folder: _link(folder) / "x", "link to nothing"),
    "a loop of links": (_loop, "link to nothing"),
    "below a loop of links": (lambda folder: _loop(folder) / "x", "link to nothing"),
    "a pipe": (_pipe, "neither a file nor a folder"),
    "a device": (lambda folder: "/dev/null", "neither a file nor a folder"),
    "below a file": (lambda folder: _file(folder) / "x", "is a file"),
    "a name of 256 bytes": (lambda folder: folder / ("n" * 256), "too long"),
    "a name of 255 bytes in UTF-8": (lambda folder: folder / ("\u00e9" * 127 + "n"), "too long"),
    "a long folder name on the way": (lambda folder: folder / ("n" * 256) / "x", "too long"),
    "a path of 5,000 bytes": (lambda folder: folder.joinpath(*["n" * 100] * 50), "too long"),
    "/proc": (lambda folder: "/proc/x", "takes no files"),
    "an unknown home": (lambda folder: "~no-such-user/x", "home folder"),
    "no name": (lambda folder: "", "not valid"),
    "a NUL": (lambda folder: "a\0b", "not valid"),
    "half a surrogate": (lambda folder: folder / "\ud800", "cannot be"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_places_are_refused(kind: str, tmp_path: Path) -> None:
    make, words = IMPOSSIBLE[kind]
    place = make(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for check in (check_place, check_cache):
        with pytest.raises(InputError, match=words) as caught:
            check(local_path(place))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "checking left something behind"


@pytest.mark.parametrize("place", ["s3://bucket/x", "gs://bucket", "https://host/x"])
@pytest.mark.parametrize(
    "words", ["finetune x.jsonl --model m --out", "validate x.jsonl --model m --out", "gate x.jsonl --clean"]
)
def test_commands_that_write_here_only_refuse_urls_before_they_read(
    words: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), place]) == 2
    assert f"{place} is a URL" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_python_refuses_them_too(tmp_path: Path) -> None:
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[])
    rows = pa.table({"prompt": ["a", "b", "c"], "completion": ["d", "ee", "fff"]})
    for arguments in ({"out": "https://host/x"}, {"out": _link(tmp_path)}):
        with pytest.raises(InputError, match=r"only read|link to nothing"):
            pipeline.run(rows, **arguments)


def test_home_is_expanded_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CURATE_CACHE", "~/cache")
    assert local_cache() == tmp_path / "cache"
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    done = main(["run", str(tmp_path / "rows.jsonl"), "--recipe", str(tmp_path / "recipe.yaml"), "--out=~/result"])
    assert done == 0, capsys.readouterr().err
    assert (tmp_path / "result" / "run.json").is_file()


UNREADABLE = {
    "n" * 256: "File name too long",
    "a/" * 2500: "File name too long",
    "~no-such-user/x": "home folder",
    "": "the text is empty",
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "{}"],
        ["report", "{}"],
        ["plan", "{}"],
        ["plan", "rows.jsonl", "--proxy", "{}"],
        ["plan", "rows.jsonl", "--proxy", "scratch", "--scores", "{}"],
        ["finetune", "{}", "--model", "scratch", "--out", "out"],
        ["finetune", "rows.jsonl", "--model", "{}", "--out", "out"],
        ["evaluate", "{}", "--data", "rows.jsonl"],
        ["expo", "{}", "--alpha", "0.5", "--out", "out"],
        ["compare", "{}", "other"],
        ["gate", "rows.jsonl", "--evaluation", "{}"],
    ],
)
def test_names_that_no_file_can_have_are_refused_where_something_is_read(
    command: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    assert main([word.format(name) for word in command]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("curate: ")]
    assert UNREADABLE[name] in line
    assert not Path("out").exists()


def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        expanded(tmp_path)


def test_without_a_home_the_remedy_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CURATE_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", unknown)
    with pytest.raises(InputError, match="CURATE_CACHE"):
        local_cache()
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    assert local_cache() == tmp_path


def test_escapes_in_a_name_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    Path("recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    for _ in range(2):  # the second time the result is there, which is another line
        assert main(["run", "rows.jsonl", "--recipe", "recipe.yaml", "--out", "a\x1b[31mb"]) == 0
    assert main(["inspect", "a\x1b[31mb"]) == 0
    assert main(["report", "a\x1b[31mb"]) == 0
    assert main(["report", "no\x1b[31mthing"]) == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "a␛[31mb" in printed.out


def test_a_place_may_be_as_deep_as_a_path_can_tell(tmp_path: Path) -> None:
    """Far deeper than calls can be nested."""
    deep = tmp_path / os.sep.join(["a"] * 1500)
    check_cache(deep)
    check_place(deep)
    began = time.monotonic()
    with Cache(deep).writing("group", "k"):
        pass
    assert (deep / "group" / "k").is_dir()
    with Cache(deep).lock("group", "k"):
        pass
    assert {path.name for path in files_under(tmp_path)} == {"manifest.json", ".k.lock"}
    status, found, _ = doctor._cache(deep)
    assert status == doctor._cache(tmp_path)[0], found
    assert time.monotonic() - began < 30
    remove_folder(str(tmp_path / "a"))


def test_files_are_found_as_rglob_finds_them(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a", "b/d", "b/c/.e"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "away").symlink_to("b")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    assert sorted(files_under(tmp_path)) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(list(files_under(tmp_path))) == 4


def test_a_cache_is_made_where_it_can_be(tmp_path: Path) -> None:
    check_cache(tmp_path / "new" / "cache")
    check_place(tmp_path / "new" / "result")
    assert not (tmp_path / "new").exists()
    assert Cache(tmp_path / "new").get("a") is None


def test_only_text_with_a_scheme_is_a_url() -> None:
    signed = "https://host/rows.csv?X-Amz-Signature=secret&token=other"
    assert all(map(is_url, ["s3://a/b", "https://a", "hf://datasets/a/b"]))
    assert not any(map(is_url, ["C:/x", "a/b", Path("s3://a"), None, "org/name"]))
    assert holds_signature(signed)
    assert not holds_signature("https://host/rows.csv?download=true")
    assert without_secrets(f"at {signed} and s3://me:word@b/x") == "at https://host/rows.csv and s3://b/x"


def test_a_url_with_one_slash_is_told_what_it_was_meant_to_be() -> None:
    for place, url in {"s3:/bucket/x": "s3://bucket/x", "HTTPS:/host/x": "HTTPS://host/x"}.items():
        assert meant_url(place) == url
        with pytest.raises(InputError, match=re.escape(f"write {url}")):
            local_path(place)
        with pytest.raises(InputError, match=re.escape(f"write {url}")):
            read(f"{place}/rows.jsonl")
    assert [meant_url(place) for place in ("run:/x", "s3://bucket/x", "c:/x", "s3:x")] == [None] * 4
