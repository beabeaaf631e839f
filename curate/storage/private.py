"""Restrict files to their owner on shared machines."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

from curate.errors import DataWarning, InputError


def check_regular(paths: Iterable[Path], remedy: str) -> None:
    """Raise an InputError that ends in `remedy` for each path that exists and is not a regular file.

    Opening a pipe would block, a device would get another mode, and writing to a dangling link would create its target.
    """
    for path in paths:
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            regular = not path.is_symlink()
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            regular = not path.is_symlink()
        if not regular:
            raise InputError(f"{path} is not a file; {remedy}")


def make_private(paths: Iterable[Path]) -> None:
    """Remove the permissions of group and others from existing files and folders; warns if that is not possible."""
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                path.chmod(mode & 0o700)
        except FileNotFoundError:
            continue
        except OSError as error:
            warnings.warn(
                f"others can read {path}, and that cannot be changed ({error.strerror}); choose a cache of your own "
                "with --cache",
                DataWarning,
                stacklevel=2,
            )
