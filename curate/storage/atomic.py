"""Make a file or folder appear whole, by one rename, or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curate.errors import CurateError, ExternalError, InputError

_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, *_DENIED}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into ExternalError; once it is fixed, the same command resumes."""
    try:
        yield
    except CurateError:
        raise
    except Exception as error:
        code = _disk_fault(error)
        if code is None:
            raise
        remedy = "make it writable or name another place" if code in _DENIED else "make room"
        raise ExternalError(f"cannot write {path}: {os.strerror(code)}; {remedy} and rerun the same command") from error


def _disk_fault(error: Exception) -> int | None:
    """The errno of a disk that cannot be written; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _DISK_ERRORS else None
    text = str(error)
    if isinstance(error, OSError) and "requested and" in text:  # how NumPy reports a short write
        return errno.ENOSPC
    # safetensors and Arrow wrap the system's error in their own
    return next((code for code in sorted(_DISK_ERRORS) if os.strerror(code) in text), None)


@contextmanager
def publishing(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield an empty folder beside `target` to write into; afterwards it is synced and renamed there.

    replace: whether an existing target is replaced. If not, it is kept and the new folder is discarded. Nothing is
    published if the body of the `with` statement raises.
    """
    make_folder(target.parent)
    partial = _partial(target)
    remove_stale(target)
    with disk_errors(target):
        try:
            partial.mkdir()
            yield partial
            for path in sorted(partial.rglob("*"), reverse=True):
                sync(path)
            sync(partial)
            if replace and os.path.lexists(target):  # a link to nothing, too
                aside = _partial(target)
                os.replace(target, aside)
                os.replace(partial, target)
                remove(aside)
            else:
                _rename_unless_there(partial, target)
            sync(target.parent)
        finally:
            if partial.exists():
                shutil.rmtree(partial, ignore_errors=True)


def publish_file(target: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write text (as UTF-8) or bytes to a temporary file, sync it and rename it. replace: as in `publishing`."""
    make_folder(target.parent)
    partial = _partial(target)
    remove_stale(target)
    with disk_errors(target):
        try:
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            sync(partial)
            if replace:
                with _no_folder(target):
                    os.replace(partial, target)
            else:
                _link_unless_there(partial, target)
            sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)


def _host() -> str:
    """8 hex digits that identify the machine and PID namespace, since a process ID is unique only within one."""
    # Several machines may share the cache's disk, and containers with the same host name may share /tmp.
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b((socket.gethostname() + numbers).encode(), digest_size=4).hexdigest()


def owner() -> str:
    """Identify this process (HOST-PID-START) in a file name, so that other processes can tell when it has ended."""
    return f"{_host()}-{os.getpid()}-{_start_time(os.getpid())}"


def died(mark: str) -> bool:
    """Whether the process in a mark that begins with `owner()` has ended; False if it ran on another machine."""
    host, pid, start, *_ = [*mark.split("-"), "", "", ""]
    return host == _host() and pid.isdigit() and not _alive(int(pid), start)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{owner()}-{os.urandom(3).hex()}")


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents. Raises InputError if a file is in the way."""
    with disk_errors(folder):
        try:
            mkdirs(folder, mode)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{error.filename or folder} is a file where a folder is needed; remove it") from error


def mkdirs(folder: Path, mode: int = 0o777) -> None:
    """Like `folder.mkdir(mode, parents=True, exist_ok=True)`, without its recursion, which fails at 1,000 levels."""
    missing = [folder]
    while (above := missing[-1].parent) != missing[-1] and not above.exists():
        missing.append(above)
    for path in missing[:0:-1]:
        path.mkdir(exist_ok=True)
    folder.mkdir(mode, exist_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(target: Path) -> None:
    """Remove a file or link if it exists. Raises InputError for a folder, which may hold anything."""
    with disk_errors(target), _no_folder(target):
        target.unlink(missing_ok=True)


@contextmanager
def _no_folder(target: Path) -> Iterator[None]:
    """Turn the OSError of a file operation on a folder into an InputError."""
    try:
        yield
    except OSError as error:
        if target.is_dir() and not target.is_symlink():
            raise InputError(f"{target} is a folder where a file is needed; remove it") from error
        raise


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder as far as its content can be removed; does nothing if it is missing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename_unless_there(partial: Path, target: Path) -> None:
    """Rename a folder; if `target` exists (another process published it first), leave both as they are."""
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _link_unless_there(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        with suppress(FileExistsError), target.open("xb") as file:
            file.write(partial.read_bytes())


def remove_stale(target: Path) -> None:
    """Remove partial files and folders beside `target` whose processes have ended."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        if died(path.name.rsplit(".partial-", 1)[1]):
            remove(path)


def _alive(pid: int, start: str) -> bool:
    """Whether the process that began at `start` still runs, rather than a later one with the same ID.

    Process IDs repeat across containers: the first process of each is number 1.
    """
    return _start_time(pid) == start


def _start_time(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" if it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return text.rpartition(")")[2].split()[19]  # field 22 of proc(5); the name before ")" may hold anything
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)  # a system without /proc
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
