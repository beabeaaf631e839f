"""Paths and URLs that users name: tell them apart, expand paths, and check early that they can be written."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from curate.errors import ExternalError, InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# A URL, also after pathlib has folded its slashes ("s3:/bucket"); one letter is a drive, not a scheme.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_ONE_SLASH = re.compile(r"(s3a?|gs|gcs|hf|az|abfs|https?):/(?=[^/])", re.IGNORECASE)
# Names of URL parameters that grant access; in a URL, the query and a name before the host.
_GIVES_ACCESS = re.compile(r"sig|token|key|credential|secret|password|auth", re.IGNORECASE)
_SECRET = re.compile(r"(?<=[\w.+-]:)(//)(?:[^\s/'\"@]*@)?([^\s'\"?]*)(?:\?[^\s'\"]*)?")
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_FULL = {errno.ENOSPC, errno.EDQUOT}
# Longest addition to a name while its file or folder is written: ".NAME.partial-HOST-PID-START-RANDOM".
_PARTIAL_BYTES = 52
_PATH_BYTES = 4096 - 256  # the system's limit, less what we append to a folder


def is_url(place: Any) -> bool:
    """Whether `place` is a URL."""
    return isinstance(place, str) and _URL.match(place) is not None


def without_secrets(text: str) -> str:
    """The text with the queries (signatures) and user names of URLs in it removed."""
    return _SECRET.sub(r"\1\2", text)


def holds_signature(value: Any) -> bool:
    """Whether `value` is a URL with a signature, key or token in its query."""
    return is_url(value) and any(_GIVES_ACCESS.search(name) for name, _ in parse_qsl(urlsplit(value).query))


def arrow_path(path: Path) -> str:
    """Absolute path for pyarrow, which would read relative ones such as run:1/x.parquet or s3:x as URLs."""
    return os.path.abspath(path)


def meant_url(place: str | Path) -> str | None:
    """The URL that `place`, which has one slash behind its scheme, was probably meant to be; None if it is a path."""
    match = _ONE_SLASH.match(str(place))
    return None if match is None else f"{match[1]}://{str(place)[match.end() :]}"


def local_path(place: str | Path) -> Path:
    """`place` with `~` expanded. Raises InputError for a URL, an empty name, or what `expanded` refuses."""
    text = str(place)
    if "\0" in text:
        raise InputError(f"the path {text!r} is not valid; name a file or folder")
    if isinstance(place, str) and (url := meant_url(place)):
        raise InputError(f"{text} has one slash where URLs have two; write {url}")
    if _SCHEME.match(text):
        raise InputError(f"{text} is a URL, and only local paths are supported here; name a path on this machine")
    return expanded(text)


def expanded(name: str | Path) -> Path:
    """`name` as a path with `~` expanded; it need not exist.

    Raises InputError if it cannot be looked up: an empty name, an unknown home folder, a name that is too long or
    cannot be encoded, a parent folder without permission.
    """
    if not str(name).strip():
        raise InputError(f"the path {str(name)!r} is not valid; name a file or folder")
    path = Path(name)
    try:
        path = path.expanduser()
        path.stat()
    except RuntimeError as error:
        raise InputError(f"{name}: the home folder it refers to is not known; write the path out in full") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{_visible_start(path)}: its name cannot be encoded; name another place") from error
    except ValueError:  # a null character, which no name has
        pass
    except OSError as error:
        if error.errno not in _ABSENT:
            raise InputError(f"{_visible_start(path)} cannot be read ({error.strerror}); name another place") from error
    return path


def files_under(folder: Path) -> Iterator[Path]:
    """All files below a folder, links to files included, in no order. Raises OSError like `os.scandir`.

    Iterative, since `Path.rglob` takes quadratic time in the depth and fails at 1,000 levels.
    """
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif (path := Path(entry.path)).is_file():  # entry.is_file() raises for a loop of links
                        yield path
        except PermissionError:
            continue


def check_place(path: Path) -> None:
    """Raise early if `path` can be neither created nor replaced.

    Raises InputError if it never can be (a URL, a dangling link, a name that is too long, a file in place of a folder,
    a file system that takes no files) and ExternalError if the disk is full or read-only.
    """
    place = _nearest_folder(path)
    failure = _write_failure(place)
    if failure is None:
        return
    if failure.errno in _DENIED:
        raise ExternalError(f"{path} cannot be written: {place} is read-only; make it writable or name another place")
    if failure.errno in _FULL:
        raise ExternalError(f"{path} cannot be written: {failure.strerror}; make room and rerun the same command")
    raise InputError(f"{path} cannot be made: {place} takes no files ({failure.strerror}); name another place")


def check_cache(root: Path) -> None:
    """Like `check_place`, for a cache folder, which may be read-only or full since all entries may exist already."""
    place = _nearest_folder(root)
    if root.exists() and not root.is_dir():
        raise InputError(f"--cache {root} is a file; name a folder")
    failure = _write_failure(place)
    if failure is not None and failure.errno not in _DENIED | _FULL:
        raise InputError(
            f"--cache {root} cannot be made: {place} takes no files ({failure.strerror}); name another one"
        )


def _nearest_folder(path: Path) -> Path:
    """`path` itself if it is an existing folder, else its nearest existing parent."""
    path = local_path(path)
    try:
        _check_names(path)
        for place in (path, *path.parents):
            if place.is_symlink() and not place.exists():
                raise InputError(f"{path}: {place} is a link to nothing; remove it, or name another place")
        if path.exists() and not path.is_dir() and not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder; name another place")
        place = path if path.is_dir() else path.parent
        while not place.exists():
            place = place.parent
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be encoded"
        raise InputError(f"{_visible_start(path)} cannot be made: {reason}; name another place") from error
    if not place.is_dir():
        raise InputError(f"{path} cannot be made, because {place} is a file; name another place")
    return place


def _check_names(path: Path) -> None:
    """Raise OSError for a path that is too long, or would be with the suffix of its temporary name."""
    name = os.fsencode(path.absolute().name)
    longest = 255 - (0 if path.is_dir() else _PARTIAL_BYTES)
    if len(name) > longest or len(os.fsencode(path.absolute())) > _PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _visible_start(path: Path) -> str:
    """The path, or the start of one that is too long for a message."""
    text = str(path)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _write_failure(place: Path) -> OSError | None:
    """Try to create a file in a folder and return the error; permissions alone do not tell (/proc, quotas, mounts)."""
    try:
        # Other processes may see it, even later if this one is killed here; they ignore names of this form.
        os.rmdir(tempfile.mkdtemp(prefix=".curate.partial-", dir=place))
    except OSError as error:
        return error
    return None
