"""Which releases of what made a result, for records of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

__all__ = ["made_by", "own_version", "versions"]

_PACKAGES = ("curate-lm", "numpy", "pyarrow", "scikit-learn", "torch", "transformers", "tokenizers", "datasets")


def own_version() -> str:
    """The installed release of curate; "source tree" where none is installed."""
    return versions(["curate-lm"]).get("curate-lm", "source tree")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Name of a distribution -> its version, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def made_by() -> dict[str, Any]:
    """Version, time and machine, for a record of what is made now."""
    return {
        "curate_version": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(_PACKAGES),
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
    }
