"""The loop that the documentation of reweighters shows, as it stands there."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import torch

from curate import reweighters


def _shown() -> str:
    assert reweighters.__doc__ is not None
    lines = reweighters.__doc__.splitlines()
    first = lines.index("    import torch")
    last = max(number for number, line in enumerate(lines) if line.startswith("    "))
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def test_the_loop_shown_runs_and_weighs() -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(_shown(), "documentation", "exec"), names)
    assert names["step"] == 4
    weights, losses = names["weights"].numpy(), names["losses"].detach().numpy().astype(np.float64)
    low, high = losses.min(), losses.max()
    shape = np.minimum((2 * losses - high - low) / (high - low) + 1, 1)  # arXiv 2502.06733, linupper, r = 1
    np.testing.assert_allclose(weights, 8 * np.exp(shape) / np.exp(shape).sum(), rtol=1e-4)
    assert names["tokens"].tolist() == [10] * 8
    np.testing.assert_allclose(names["loss"].item(), (weights * losses).mean(), rtol=1e-5)


def test_the_loop_shown_is_short() -> None:
    assert len([line for line in _shown().splitlines() if line.strip()]) <= 20
