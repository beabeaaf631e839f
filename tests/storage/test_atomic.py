"""Files and folders appear whole, in the place of whatever is there, or not at all."""

import os
from functools import partial
from pathlib import Path

import pytest

from curate.errors import InputError
from curate.storage import atomic as publish_module


def test_leftovers_of_an_earlier_process_with_our_number_are_removed(tmp_path: Path) -> None:
    """In a container every first process is number 1, and every second number 7."""
    mine = publish_module._partial(tmp_path / "k")
    host, pid, start, rest = mine.name.rsplit(".partial-", 1)[1].split("-")
    assert pid == str(os.getpid())
    for number, began in ((pid, "1"), ("1", "1"), (pid, "")):
        (tmp_path / f".k.partial-{host}-{number}-{began}-{rest}").mkdir()
    living = tmp_path / f".k.partial-{host}-{pid}-{start}-abc"
    elsewhere = tmp_path / f".k.partial-0000-{pid}-1-abc"
    for folder in (living, elsewhere):
        folder.mkdir()
    publish_module.remove_stale(tmp_path / "k")
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere])


IN_THE_WAY = {
    "a file": lambda place: place.write_text("old"),
    "a pipe": os.mkfifo,  # to open it would be to wait for ever
    "a link to nothing": lambda place: place.symlink_to("nowhere"),
    "a loop": lambda place: place.symlink_to(place.name),
    "a link to a folder": lambda place: place.symlink_to(place.parent / "kept"),
    "a folder": lambda place: (place / "inner").mkdir(parents=True),
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_a_folder_takes_the_place_of_whatever_is_there(kind: str, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("not ours")
    IN_THE_WAY[kind](tmp_path / "new")
    with publish_module.publishing(tmp_path / "new") as folder:
        (folder / "file").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]
    assert not (tmp_path / "new").is_symlink()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "kept" / "file").read_text() == "not ours"


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_a_file_takes_the_place_of_all_but_a_folder(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "new"
    (tmp_path / "kept").mkdir()
    IN_THE_WAY[kind](place)
    for act in (partial(publish_module.publish_file, content="new"), publish_module.remove_file):
        if kind == "a folder":
            with pytest.raises(InputError, match="is a folder where a file is needed; remove it"):
                act(place)
            assert (place / "inner").is_dir()
        else:
            act(place)
            assert place.is_symlink() is False
            assert place.exists() == (act is not publish_module.remove_file)
    assert (tmp_path / "kept").is_dir()
    assert len(list(tmp_path.iterdir())) == (2 if kind == "a folder" else 1)
