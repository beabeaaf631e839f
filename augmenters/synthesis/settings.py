"""What `augmenters.Synthesize` is set to, as the engine reads it."""

from __future__ import annotations

from typing import Protocol

from curate.generators.requests import Generator, Sampling

__all__ = ["Settings"]


class Settings(Protocol):
    """The parameters of `augmenters.Synthesize`; it says what each means and holds the defaults."""

    @property
    def generator(self) -> Generator: ...

    @property
    def variants(self) -> int: ...

    @property
    def samples(self) -> int: ...

    @property
    def band(self) -> tuple[int, int]: ...

    @property
    def variation_sampling(self) -> Sampling: ...

    @property
    def solution_sampling(self) -> Sampling: ...

    @property
    def variation_prompt(self) -> str: ...

    @property
    def solution_prompt(self) -> str: ...

    @property
    def longest_problem(self) -> int: ...

    @property
    def budget(self) -> int | None: ...

    @property
    def run_programs(self) -> bool: ...
