"""What a run says when its numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.errors import InputError

if TYPE_CHECKING:
    from curate.train import TrainConfig

__all__ = ["DivergenceError"]


class DivergenceError(InputError):
    """A loss, a gradient or the weights stopped being finite.

    step: optimizer steps done before. rows: positions in `tokens` of the rows whose loss is not finite, or of
    the whole optimizer batch where only its gradient is not, or the weights after it are not.
    """

    def __init__(self, message: str, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.rows = list(rows)

    @classmethod
    def at(cls, what: str, step: int, rows: list[int], config: TrainConfig) -> DivergenceError:
        """what: is not finite after `step` updates; rows: those to look at."""
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        rate = f"lower learning_rate (peak {config.learning_rate:g}) or look at these rows"
        return cls(f"{what} is not finite after {step} optimizer steps (row positions {shown}); {rate}", step, rows)
