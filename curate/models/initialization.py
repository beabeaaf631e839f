"""Whether the weights of a model were ever trained, as far as its files tell."""

from __future__ import annotations

import re
from pathlib import Path

_SCALE = re.compile(r"(norm\w*|ln_\w+)\.weight$")


def has_initial_weights(folder: Path) -> bool:
    """Whether all scales of norms in a folder's safetensors files are as initialization leaves them: all 1, or all 0.

    One update of an optimizer changes them, so a model of which it is true was not trained (or in low-rank factors
    alone). False where that cannot be told: no such files, or no norms with scales in them.
    """
    from safetensors import SafetensorError, safe_open

    found = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), "pt") as file:
                for name in file.keys():  # noqa: SIM118 - the file is no mapping
                    if not _SCALE.search(name) or len(file.get_slice(name).get_shape()) != 1:
                        continue
                    scale = file.get_tensor(name)
                    if not bool((scale == scale[0]).all()) or float(scale[0]) not in (0.0, 1.0):
                        return False
                    found += 1
        except (SafetensorError, OSError):  # loading it says what is wrong with it
            return False
    return found > 0
