"""Memory-mapped files of tokens that do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from curate.storage.mapped import mapped
from curate.tokenization.tokens import Tokens, row_offsets

IN_MEMORY = 64 << 20  # most tokens of a dataset to hold in memory; does not affect results
BYTES_PER_TOKEN = 5  # in files

_PER_TOKEN: dict[str, Any] = {"ids": np.int32, "supervised": np.bool_}
_PER_ROW: dict[str, Any] = {"lengths": np.int64, "valid": np.bool_, "prompt_cut": np.int32, "completion_cut": np.int32}


def write_tokens(parts: Iterable[Tokens], folder: Path) -> None:
    """Write the concatenated rows of all parts as raw arrays, one file for each field."""
    files = {name: (folder / f"{name}.bin").open("xb") for name in (*_PER_TOKEN, *_PER_ROW)}
    try:
        for part in parts:
            for name, file in files.items():
                file.write(np.ascontiguousarray(getattr(part, name)).tobytes())
    finally:
        for file in files.values():
            file.close()


def open_tokens(folder: Path) -> Tokens:
    """Open tokens that `write_tokens` wrote; arrays per token are memory-mapped, arrays per row are read."""
    arrays = {name: np.fromfile(folder / f"{name}.bin", kind) for name, kind in _PER_ROW.items()}
    for name, kind in _PER_TOKEN.items():
        with (folder / f"{name}.bin").open("rb") as file:
            arrays[name] = np.frombuffer(mapped(file), kind)
    lengths = arrays.pop("lengths")
    return Tokens(**arrays, offsets=row_offsets(lengths))
