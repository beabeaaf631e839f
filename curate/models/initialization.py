"""Detect from a model's files whether its weights were ever trained."""

from __future__ import annotations

import re
from pathlib import Path

_SCALE = re.compile(r"(norm\w*|ln_\w+)\.weight$")


def has_initial_weights(folder: Path) -> bool:
    """Whether all norm scales in a folder's safetensors files have their initial values: all 1, or all 0.

    One optimizer update changes them, so a model with initial values was not trained (or only its low-rank factors
    were). False if this is unknown: no such files, or no norms with scales in them.
    """
    from safetensors import SafetensorError, safe_open

    redrawn = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), "pt") as file:
                for name in file.keys():  # noqa: SIM118 - the file is not a mapping
                    if not _SCALE.search(name) or len(file.get_slice(name).get_shape()) != 1:
                        continue
                    scale = file.get_tensor(name)
                    if not bool((scale == scale[0]).all()) or float(scale[0]) not in (0.0, 1.0):
                        return False
                    redrawn += 1
        except (SafetensorError, OSError):  # loading the model reports what is wrong with it
            return False
    return redrawn > 0
