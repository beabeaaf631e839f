"""The rule of reducible rows, on the proxies of a task, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.when.family import Task
from curate import Split
from curate.errors import InputError


def reducible_rows(task: Task, split: Split, seed: int) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """(n,) which rows are reducible, and what the rule says of itself."""
    raise InputError("the rule of reducible rows is not there yet; leave its arms out")
