"""Training metrics: a JSON Lines file, trackers, and a progress line."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from curate.console.formatting import duration
from curate.errors import InputError
from curate.storage.atomic import disk_errors, publish_file
from curate.training.config import StepRecord
from curate.training.trackers import Callback, open_trackers

_RECENT_STEPS = 20  # window of the rate shown on the terminal
_ALWAYS = ("step", "loss", "tokens", "seconds")


class Metrics:
    """One line per logged step, on disk when `write` returns; no step occurs twice, however often a run is resumed.

    path: of metrics.jsonl. step: steps already done; later lines of a run that went further before it was killed are
    removed. loggers: further destinations, "tensorboard", "wandb" or "mlflow", or a `Callback`. name, settings: of the
    run, for trackers that show them.
    """

    def __init__(
        self,
        path: Path,
        step: int,
        loggers: Sequence[str | Callback],
        name: str,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        lines = [line for line in read_metrics(path) if line["step"] <= step]
        # Lines after the step from which a run resumes are written again, with the same content.
        publish_file(path, "".join(json.dumps(line) + "\n" for line in lines), replace=True)
        self._tokens: int = lines[-1]["tokens"] if lines else 0
        self._seconds: float = lines[-1]["seconds"] if lines else 0.0
        self._trackers = open_trackers(loggers, path.parent, name, settings or {}, step)
        with disk_errors(path):
            self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(self, values: Mapping[str, float]) -> None:
        """values: step, epoch, loss, learning_rate, gradient_norm, tokens and seconds of the run so far."""
        tokens, seconds = values["tokens"] - self._tokens, values["seconds"] - self._seconds
        self._tokens, self._seconds = int(values["tokens"]), float(values["seconds"])
        rate = round(tokens / seconds, 1) if seconds > 0 else 0.0
        line = {name: value for name, value in values.items() if name != "seconds"}
        line |= {"tokens_per_second": rate, "seconds": round(values["seconds"], 4)}
        with disk_errors(self.path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        for tracker in self._trackers:
            tracker.write(int(values["step"]), {name: value for name, value in line.items() if name != "step"})

    def sync(self) -> None:
        """Flush all lines to disk; called before a checkpoint is saved, which must not be ahead of them."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


class Monitor:
    """Converts records of optimizer steps to lines of metrics and a progress line.

    steps: of the run. rows: valid ones, an epoch. log_every: steps between lines of metrics. operations:
    floating-point operations of one gradient of a batch of mean rows. peak: see `curate.finetuning.flops.peak_rate`.
    gradients: of the last step recorded.
    """

    def __init__(
        self, steps: int, batch_size: int, rows: int, log_every: int, operations: float, peak: float | None
    ) -> None:
        self.steps, self.batch_size, self.rows, self.log_every = steps, batch_size, rows, log_every
        self.operations, self.peak = operations, peak
        self.gradients = 1
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT_STEPS + 1)  # tokens and seconds after a step

    def step(self, record: StepRecord, metrics: Metrics | None) -> str:
        """Log a step to `metrics` if it is due; returns the progress line."""
        self.gradients = record.gradients
        if metrics is not None and (record.step % self.log_every == 0 or record.step == self.steps):
            epoch = record.step * self.batch_size / self.rows
            metrics.write({"step": record.step, **record.metrics(epoch)})
        self._recent.append((record.tokens, record.seconds))
        return self._line(record)

    def _line(self, record: StepRecord) -> str:
        """loss 1.234, 5,678 tokens/s, 43 % of peak, 3 min 20 s left"""
        line = f"loss {record.loss:.3f}"
        (tokens, seconds), steps = self._recent[0], len(self._recent) - 1
        if steps and record.seconds > seconds:
            step_seconds = (record.seconds - seconds) / steps
            line += f", {(record.tokens - tokens) / steps / step_seconds:,.0f} tokens/s"
            if self.peak:
                line += f", {self.gradients * self.operations / step_seconds / self.peak:.0%} of peak"
            line += f", {duration((self.steps - record.step) * step_seconds)} left"
        return line


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, except one that a killed run left incomplete; empty if there is no file.

    Raises InputError naming a line that is damaged.
    """
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise InputError(f"{path} is not a file; remove it")
    *texts, _unfinished = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is damaged; remove the line") from error
        numbers = isinstance(line, dict) and all(_is_number(line.get(name)) for name in _ALWAYS)
        if not numbers or not (line.get("gradient_norm") is None or _is_number(line["gradient_norm"])):
            raise InputError(f"{path}, line {number} does not hold {', '.join(_ALWAYS)} as numbers; remove the line")
        lines.append(line)
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
