"""JSON records with checksums: written with results, verified by the commands that read them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from curate.errors import InputError, reason_of
from curate.storage.hashing import file_digest

_CHECKSUM = "checksum"
_FILES = "files"
_PACKAGES = ("curate-lm", "numpy", "pyarrow", "scikit-learn", "torch", "transformers", "tokenizers", "datasets")


def record_text(record: Mapping[str, Any]) -> str:
    """The record as JSON, with the checksum that `read_record` verifies."""
    plain = {key: value for key, value in record.items() if key != _CHECKSUM}
    text = json.dumps({**plain, _CHECKSUM: _checksum(plain)}, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"  # half a surrogate pair: as JSON escapes it


def read_record(path: Path, remedy: str, kind: str | None = None) -> dict[str, Any]:
    """Read a record, without its checksum.

    Commands rely on records, so a damaged or edited one is refused as a whole. kind: required value of its key "kind".
    Raises InputError that ends in `remedy`, also for a missing file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file; {remedy}")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    return parse_record(content, path, remedy, kind)


def parse_record(content: bytes, path: Path | str, remedy: str, kind: str | None = None) -> dict[str, Any]:
    """Like `read_record`, from the content of a file. path: for messages."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON
        raise InputError(f"{path} is damaged ({reason_of(error, 120)}); {remedy}") from error
    if not isinstance(record, dict) or _CHECKSUM not in record:
        raise InputError(f"{path} is not a record that curate wrote; {remedy}")
    checksum = record.pop(_CHECKSUM)
    if checksum != _checksum(record):
        raise InputError(f"{path} was changed after it was written; {remedy}")
    if kind is not None and record.get("kind") != kind:
        raise InputError(f"{path} is not the record of {kind}; {remedy}")
    return record


def peek(path: Path) -> dict[str, Any]:
    """Read a record without verifying it; empty if there is none.

    Only to tell which command wrote it before it is replaced.
    """
    try:
        record = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_checksums(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """{name inside the folder: 32 hex digits} of the files that match any pattern, for the key "files" of a record."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest([(path, path.name)]) for path in paths}


def check_files(folder: Path, record: Mapping[str, Any], remedy: str, prefix: str = "") -> None:
    """Raise InputError for the first missing or changed file of a record whose name begins with `prefix`."""
    for name, checksum in record.get(_FILES, {}).items():
        path = folder / name
        if not name.startswith(prefix):
            continue
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path} is not a file; {remedy}")
            changed = file_digest([(path, path.name)]) != checksum
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
        if changed:
            raise InputError(f"{path} is damaged or was changed after it was written; {remedy}")


def read_finished(directory: Path) -> dict[str, Any]:
    """run.json of a finished run. Raises InputError if there is none, or it is of another command."""
    path, word = directory / "run.json", shlex.quote(str(directory))
    if not path.is_file():
        if directory.exists() and not directory.is_dir():
            raise InputError(f"{directory} is no folder of a run; `curate run {word} --out DIR` makes one")
        raise InputError(f"{directory} holds no finished run (no run.json); run `curate run DATA --out {word}`")
    record = read_record(path, "remove the folder and rerun the command that wrote it, or name another")
    if "inputs" not in record or "kind" in record:
        raise InputError(f"{path} is not that of a run; name the folder that `curate run DATA --out DIR` wrote")
    return record


def own_version() -> str:
    """The installed release of curate; "source tree" where none is installed."""
    return versions(["curate-lm"]).get("curate-lm", "source tree")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """{name: version} of the distributions that are installed."""
    installed = {}
    for name in packages:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def made_by() -> dict[str, Any]:
    """Versions, time and machine, for a record that is written now."""
    return {
        "curate_version": own_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(_PACKAGES),
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
    }
