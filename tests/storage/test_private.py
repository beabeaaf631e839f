"""Files for their owner alone: modes lose what others may do, and what is not a file is refused."""

import os
import stat
from pathlib import Path

import pytest

from curate.errors import InputError
from curate.storage.private import check_regular, make_private


def test_others_lose_their_rights_and_the_owner_keeps_them(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    file.chmod(0o644)
    folder.chmod(0o755)
    make_private([file, folder, tmp_path / "missing"])
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, folder)] == [0o600, 0o700]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "loop"])
def test_what_is_no_file_is_refused_without_waiting(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("place" if kind == "loop" else "nowhere")
    with pytest.raises(InputError, match="place is not a file; remove it"):
        check_regular([place], "remove it")


def test_files_links_to_files_and_nothing_at_all_are_fine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    check_regular([tmp_path / "file", tmp_path / "link", tmp_path / "missing", tmp_path / "file" / "below"], "")
