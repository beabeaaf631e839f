"""Packages of plug-ins whose objects are sent to workers: compared there, and sent along where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import FunctionType
from typing import Any

from pydantic import BaseModel

from curate.errors import InputError
from curate.storage.hashing import file_digest
from curate.storage.temporary import new_folder

_MOST_BYTES = 16 << 20  # of a package that is sent
_OWN = frozenset(["curate", "scorers", "augmenters", "torch", "transformers", "tokenizers", "numpy", "pyarrow"])
_KNOWN = _OWN | {"__main__", *sys.builtin_module_names, *sys.stdlib_module_names}  # by `Host.report`, or by Python
Files = dict[str, bytes]  # path below a folder of sys.path -> content


def package_names(*objects: Any) -> list[str]:
    """Top-level packages of plug-ins that define the classes of these objects and of the components inside them."""
    names: set[str] = set()
    waiting = list(objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        else:
            names.add((item if isinstance(item, type | FunctionType) else type(item)).__module__.partition(".")[0])
            if isinstance(item, BaseModel):
                waiting += [getattr(item, name) for name in type(item).model_fields]
    return sorted(names - _KNOWN)


def package_digest(name: str) -> str | None:
    """Hash of a package's Python files, whatever folder it is in; None if it cannot be found."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    return file_digest(sorted((path, known_as) for path, known_as in _files(spec) if path.suffix == ".py"))


def package_files(name: str) -> Files:
    """The files of a package, to be sent. Raises InputError, a reason, for one that has to be installed."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError("it is not here either")
    listed = _files(spec)
    installed = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    if any(path.is_relative_to(folder) for path, _ in listed for folder in installed):
        raise InputError("it is an installed distribution, which may depend on others")
    if any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path, _ in listed):
        raise InputError("it has compiled modules")
    if sum(path.stat().st_size for path, _ in listed) > _MOST_BYTES:
        raise InputError(f"it has more than {_MOST_BYTES >> 20} MiB")
    return {known_as: path.read_bytes() for path, known_as in listed}


def install(packages: Mapping[str, Files], names: Sequence[str]) -> str | None:
    """Runs on a worker: unpack packages that were sent and import all named ones; returns what was wrong, else None."""
    if packages:
        folder = Path(new_folder("curate-packages-"))
        for files in packages.values():
            for known_as, content in files.items():
                path = folder / known_as
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the code of a plug-in raises
            return f"cannot import the package {name} ({type(error).__name__}: {error})"
    return None


def _files(spec: ModuleSpec) -> list[tuple[Path, str]]:
    """(path, path below a folder of sys.path) of the files of a module or package."""
    folders = spec.submodule_search_locations
    if folders is None:
        return [(Path(spec.origin), Path(spec.origin).name)] if spec.origin and spec.has_location else []
    pairs = []
    for folder in map(Path, folders):
        paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        pairs += [(path, f"{spec.name}/{path.relative_to(folder).as_posix()}") for path in paths]
    return pairs
