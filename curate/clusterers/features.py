"""Check feature matrices and source labels, and convert them for clusterers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import InputError

Labels = npt.NDArray[np.int32]
Array = npt.NDArray[Any]
SmallSources = Literal["cluster", "all_hard"]
NOISE = -1


def string_array(values: Any) -> Any:
    """Arrow strings of an Arrow array, a NumPy array or a sequence."""
    import pyarrow as pa

    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if array.type in (pa.string(), pa.large_string()) else array.cast(pa.string())


def source_labels(sources: Any, n: int) -> Any:
    """`string_array` of n source labels."""
    labels = string_array(sources)
    if len(labels) != n:
        raise InputError(f"sources has {len(labels)} labels for {n} rows; give one per row")
    return labels


def shared_labels(labels: Any) -> npt.NDArray[Any]:
    """(n,) Arrow strings as Python strings, with one object for all equal ones."""
    import pyarrow.compute as pc

    encoded = labels.dictionary_encode()
    names = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return names[pc.fill_null(encoded.indices, len(names) - 1).to_numpy(zero_copy_only=False)]


def source_codes(sources: Any, n: int) -> tuple[Labels, list[str | None]]:
    """Codes (n,) int32 into the sorted distinct source labels; rows without a source share the last code, None.

    `sources` is an Arrow array, a NumPy array or a sequence of n labels.
    """
    encoded = source_labels(sources, n).dictionary_encode(null_encoding="encode")
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda code: (names[code] is None, names[code] or ""))
    rank = np.empty(len(names), np.int32)  # (s,) code in sorted order, by code in order of appearance
    rank[order] = np.arange(len(names), dtype=np.int32)
    return rank[encoded.indices.to_numpy(zero_copy_only=False)], [names[code] for code in order]


def feature_matrix(X: Any) -> Array:
    """X as a finite (n, f) array, or an InputError that names the invalid row."""
    array = np.asarray(X)  # (n, f)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"features have shape {array.shape}; a clusterer needs (n, f) with n, f > 0")
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(f"features have dtype {array.dtype}; a clusterer needs numbers")
    for column in range(array.shape[1]):
        finite = np.isfinite(array[:, column])
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"feature {column} of row {row} is {array[row, column]}; mark the row invalid")
    return array


def too_few(rows: int, clusters: int, parameter: str) -> InputError:
    return InputError(f"{rows} rows cannot make {clusters} clusters; lower {parameter} or give more rows")
