"""The cache: whole entries or none, damage found, disk full survivable, two processes at once."""

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from curate.errors import CacheDamage, InputError
from curate.storage.cache import Cache, local_cache


def _store(cache: Cache, *key: str, text: str = "hello") -> Path:
    with cache.writing(*key) as folder:
        (folder / "value.txt").write_text(text)
    return cache.root.joinpath(*key)


def test_entry_is_found_after_put_and_by_another_cache_object(tmp_path: Path) -> None:
    assert Cache(tmp_path).get("a", "b") is None
    _store(Cache(tmp_path), "a", "b")
    found = Cache(tmp_path).get("a", "b")
    assert found is not None
    assert (found / "value.txt").read_text() == "hello"


def test_first_put_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    _store(cache, "k", text="first")
    _store(Cache(tmp_path), "k", text="second")
    assert (tmp_path / "k" / "value.txt").read_text() == "first"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_damage_is_found_set_aside_and_recomputed(tmp_path: Path, damage: str) -> None:
    path = _store(Cache(tmp_path), "k", text="x" * 100)
    file = path / "value.txt"
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[50] ^= 1
        file.write_bytes(data)
    elif damage == "truncate":
        file.write_text("x" * 99)
    elif damage == "remove":
        file.unlink()
    else:
        (path / "manifest.json").write_text("{")
    cache = Cache(tmp_path)
    with pytest.warns(CacheDamage, match="damaged"):
        assert cache.get("k") is None
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    _store(cache, "k", text="again")
    assert (cache.get("k") / "value.txt").read_text() == "again"


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with Cache(tmp_path).writing("k") as folder:
            (folder / "half").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_partial_folder_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from curate.storage.cache import Cache
        with Cache(Path({str(tmp_path)!r})).writing("k") as folder:
            (folder / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert any(".partial-" in path.name for path in tmp_path.iterdir())
    cache = Cache(tmp_path)
    assert cache.get("k") is None
    _store(cache, "k")
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_full_disk_is_an_external_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import resource, signal
        from pathlib import Path
        from curate.storage.cache import Cache
        from curate.errors import ExternalError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with Cache(Path({str(tmp_path)!r})).writing("k") as folder:
                (folder / "big").write_bytes(b"x" * 5000)
        except ExternalError as error:
            print("external:", error)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("external: cannot write")
    assert list(tmp_path.iterdir()) == []


def _many_puts(root: str, start: "multiprocessing.synchronize.Barrier") -> None:
    cache = Cache(Path(root))
    start.wait()
    for k in range(30):
        _store(cache, "group", f"entry-{k}", text=str(k))
        assert (cache.get("group", f"entry-{k}") / "value.txt").read_text() == str(k)


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [context.Process(target=_many_puts, args=(str(tmp_path), start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    fresh = Cache(tmp_path)
    assert all(fresh.get("group", f"entry-{k}") for k in range(30))
    assert not [p for p in (tmp_path / "group").iterdir() if ".partial-" in p.name]


def test_lock_excludes_and_is_released_by_death(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from curate.storage.cache import Cache
        with Cache(Path({str(tmp_path)!r})).lock("k"):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    waited = []
    with Cache(tmp_path).lock("k", waiting=lambda: waited.append(1)):
        pass
    assert waited == []


def test_drop_removes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    _store(cache, "k")
    cache.drop("k")
    assert cache.get("k") is None
    cache.drop("k")


def test_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "here"))
    assert local_cache() == tmp_path / "here"


def _in_the_way(kind: str, entry: Path) -> None:
    """Something in the place of an entry, or of a file in it, that is not what was put there."""
    if kind.startswith("manifest "):
        place, kind = entry / "manifest.json", kind.removeprefix("manifest ")
        place.unlink()
    elif kind.startswith("value "):
        place, kind = entry / "value.txt", kind.removeprefix("value ")
        place.unlink()
    else:
        shutil.rmtree(entry)
        place = entry
    if kind == "file":
        place.write_text("x")
    elif kind == "folder":
        place.mkdir()
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "dangling link":
        place.symlink_to(place.parent / "nowhere")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "deep JSON":
        place.write_text("[" * 100_000)
    else:
        place.write_text(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *("file", "folder", "loop", "dangling link", "pipe"),
        *("value folder", "value loop", "value dangling link", "value pipe"),
        *(
            "manifest folder",
            "manifest loop",
            "manifest pipe",
            "manifest deep JSON",
            "manifest [1]",
            'manifest {"a": 1}',
        ),
    ],
)
def test_whatever_lies_in_the_place_of_an_entry_is_set_aside(tmp_path: Path, kind: str) -> None:
    _in_the_way(kind, _store(Cache(tmp_path), "group", "k"))
    cache = Cache(tmp_path)
    with pytest.warns(CacheDamage, match="recomputed"):
        assert cache.get("group", "k") is None
    assert (_store(cache, "group", "k", text="again") / "value.txt").read_text() == "again"


@pytest.mark.parametrize("name", ["group", "damaged"])
def test_a_file_where_a_folder_of_the_cache_is_needed_is_named(tmp_path: Path, name: str) -> None:
    if name == "damaged":
        _in_the_way("file", _store(Cache(tmp_path), "group", "k"))
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=f"{name} is a file where a folder is needed; remove it"):
        _store(Cache(tmp_path), "group", "k")


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(place))  # the whole path may be longer than an address can be


NOBODYS_WORK = {"pipe": os.mkfifo, "socket": _socket, "loop": lambda place: place.symlink_to(place.name)}


@pytest.mark.parametrize("kind", NOBODYS_WORK)
@pytest.mark.parametrize("depth", ["outer", "outer/inner", "outer/inner/.k.lock"])
def test_what_no_one_made_is_set_aside_where_a_folder_or_lock_is_needed(tmp_path: Path, depth: str, kind: str) -> None:
    place, cache = tmp_path / depth, Cache(tmp_path)
    place.parent.mkdir(parents=True, exist_ok=True)
    NOBODYS_WORK[kind](place)
    assert cache.get("outer", "inner", "k") is None
    with pytest.warns(CacheDamage, match=rf"{depth} is damaged \(.*recomputed"), cache.lock("outer", "inner", "k"):
        pass
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    if place.is_dir():
        place.rename(place.with_name("before"))
        NOBODYS_WORK[kind](place)
        with pytest.warns(CacheDamage, match="recomputed"):
            _store(cache, "outer", "inner", "k")
        assert cache.get("outer", "inner", "k") is not None


def test_what_may_be_somebody_s_work_is_never_moved(tmp_path: Path) -> None:
    """With `--cache .` the files beside may be the user's, and the disk that a link leads to may come back."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name, message in (("file", "is a file where a folder is needed"), ("link", "is a link to nothing")):
        with pytest.raises(InputError, match=message), Cache(tmp_path).lock(name, "k"):
            pass
        with pytest.raises(InputError, match=message):
            _store(Cache(tmp_path), name, "k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
    (tmp_path / "absent").mkdir()
    assert _store(Cache(tmp_path), "link", "k") == tmp_path / "link" / "k"
