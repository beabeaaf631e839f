"""Files that only their owner may read, on shared machines."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

from curate.errors import DataWarning, InputError


def check_regular(paths: Iterable[Path], remedy: str) -> None:
    """InputError that ends in `remedy` for what is neither a file nor absent.

    A pipe would be waited for, a device be given another mode, and a link to nothing be followed to where it leads.
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
    """Take what is there of these files and folders from everybody but its owner; a warning where that cannot be."""
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
