"""Zip archives of data files."""

from __future__ import annotations

import shlex
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from curate.data.encodings import zipped
from curate.data.known_formats import NAMES
from curate.data.repositories import CARD
from curate.data.wording import first_line
from curate.errors import ExternalError, InputError
from curate.storage.atomic import disk_errors
from curate.storage.temporary import temporary_folder, temporary_place

# An archive that is both is refused: text shrinks to a tenth or a hundredth, an archive that is an attack to far less.
_LARGE, _MOST_GROWTH = 1 << 30, 300  # bytes in all, and times the size of the archive
_MOST_FILES = 100_000
_PIECE = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@contextmanager
def opened_like_a_folder(path: Path, is_data: Callable[[Path], object]) -> Iterator[Path]:
    """Like `unpacked`; what is raised inside about the folder names the archive."""
    with unpacked(path, is_data) as folder:
        try:
            yield folder
        except InputError as error:
            message = str(error).replace(f"folder {folder}", str(path)).replace(str(folder), str(path))
            remedy = f"unpack it (unzip {shlex.quote(str(path))}) and name one file, or a folder"
            raise InputError(message.replace("name one file, or a folder", remedy)) from error


@contextmanager
def unpacked(path: Path, is_data: Callable[[Path], object]) -> Iterator[Path]:
    """Unpack the data files and the card of an archive into a temporary folder, and yield the folder that has them.

    is_data: whether a file is data, by its name. A folder that holds everything else is passed over. Raises InputError
    for an archive that is damaged, protected by a password, of members outside of it, or far larger than its size
    suggests, and ExternalError if there is no room for it.
    """
    with temporary_folder("curate-zip-", temporary_place()) as place:
        place = place.resolve()
        try:
            with ZipFile(path) as archive:
                members = _members(path, archive, is_data)
                _check_room(path, members, place)
                with disk_errors(place):
                    for name, member in members.items():
                        _extract(archive, member, place.joinpath(*name.parts))
        except _DAMAGE as error:
            raise InputError(
                f"{path} cannot be unpacked ({first_line(error)}); fetch it again, or unpack it with another program"
            ) from error
        folder = place
        while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
            folder = inside[0]
        yield folder


def _members(path: Path, archive: ZipFile, is_data: Callable[[Path], object]) -> dict[PurePosixPath, ZipInfo]:
    """The files to unpack, by name."""
    listed = archive.infolist()
    if len(listed) > _MOST_FILES:
        raise InputError(f"{path} holds more than {_MOST_FILES:,} files; unpack it and name the folder of the data")
    members: dict[PurePosixPath, ZipInfo] = {}
    for member in listed:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        hidden = any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.parts)
        if member.is_dir() or hidden or not (is_data(Path(name)) or name.name == CARD):
            continue
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise InputError(f"{path} holds {member.filename!r}, which would lie outside of its folder; it is not read")
        if name in members:
            raise InputError(f"{path} holds {member.filename!r} twice; keep one of them")
        if member.flag_bits & 1:
            raise InputError(f"{path} is protected by a password; {zipped(path).partition('; ')[2]}")
        members[name] = member
    if all(name.name == CARD for name in members):
        names = sorted({Path(member.filename).suffix or member.filename for member in listed if not member.is_dir()})
        contents = f"only {', '.join(names[:5])}" if names else "nothing"
        raise InputError(f"{path} holds no data files, {contents}; pack {NAMES} files")
    return members


def _check_room(path: Path, members: dict[PurePosixPath, ZipInfo], place: Path) -> None:
    size, packed = sum(member.file_size for member in members.values()), path.stat().st_size
    if size > max(_LARGE, _MOST_GROWTH * packed):
        raise InputError(
            f"{path} would be {size / 1e9:,.1f} GB unpacked, {size // max(packed, 1):,} times its size, as of archives "
            f"that are meant to fill disks; if it is data, {zipped(path).partition('; ')[2]}"
        )
    if size > shutil.disk_usage(place).free:
        raise ExternalError(
            f"{path} needs {size / 1e9:,.1f} GB in {place.parent}; make room, or name another folder in TMPDIR"
        )


def _extract(archive: ZipFile, member: ZipInfo, target: Path) -> None:
    """Write one file. No more is read than the archive says, and a checksum is compared at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, _PIECE)
