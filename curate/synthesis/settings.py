"""What `augmenters.Synthesize` is set to, as the engine reads it."""

from __future__ import annotations

from typing import Any, Protocol

from curate.generation import Sampling
from curate.protocols import Generator

__all__ = ["Settings"]


class Settings(Protocol):
    """The parameters of `augmenters.Synthesize`; it says what each means and holds the defaults."""

    generator: Generator
    variants: int
    samples: int
    band: tuple[int, int]
    variation_sampling: Sampling
    solution_sampling: Sampling
    variation_prompt: str
    solution_prompt: str
    longest_problem: int
    budget: int | None
    keep: Any
    run_programs: bool
