"""Files that nobody but their owner may read, on machines that many share."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

from curate.errors import DataWarning

__all__ = ["make_private"]


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
