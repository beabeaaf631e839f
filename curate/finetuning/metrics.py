"""Training metrics: a JSON Lines file, trackers (TensorBoard, Weights & Biases, MLflow, callables), a progress line."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from curate.console.formatting import duration
from curate.errors import ExternalError, InputError
from curate.storage.atomic import disk_errors, publish_file
from curate.training.config import StepRecord

_LOGGERS = ("tensorboard", "wandb", "mlflow")
_RECENT_STEPS = 20  # window of the rate shown on the terminal
_ALWAYS = ("step", "loss", "tokens", "seconds")
_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}

# Called with the step and its metrics for every line of metrics.jsonl.
Callback = Callable[[int, Mapping[str, float]], None]


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
        self._loggers = [_logger(logger, path.parent, name, step, settings or {}) for logger in loggers]
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
        for logger in self._loggers:
            logger.write(int(values["step"]), {name: value for name, value in line.items() if name != "step"})

    def sync(self) -> None:
        """Flush all lines to disk; called before a checkpoint is saved, which must not be ahead of them."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        for logger in self._loggers:
            logger.close()


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
            metrics.write(
                {
                    "step": record.step,
                    "epoch": round(record.step * self.batch_size / self.rows, 4),
                    "loss": record.loss,
                    "learning_rate": record.learning_rate,
                    "gradient_norm": record.gradient_norm,
                    "tokens": record.tokens,
                    "seconds": record.seconds,
                }
            )
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


def _logger(
    kind: str | Callback, out: Path, name: str, step: int, settings: Mapping[str, Any]
) -> _TensorBoard | _WeightsAndBiases | _MLflow | _OwnCallback:
    if not isinstance(kind, str):
        return _OwnCallback(kind)
    if kind == "mlflow":
        return _MLflow(out, name, settings)
    if kind == "tensorboard":
        return _TensorBoard(out / "tensorboard", step)
    if kind == "wandb":
        return _WeightsAndBiases(out, name, settings)
    raise AssertionError(kind)  # unreachable: see check_loggers


class _TensorBoard:
    def __init__(self, directory: Path, step: int) -> None:
        self._writer: Any = _module("tensorboard").SummaryWriter(str(directory), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """Offline unless the environment holds a key or sets a mode, so that no login prompt blocks the run."""

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb = _module("wandb")
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        project = os.environ.get("WANDB_PROJECT", "curate")
        try:
            self._run: Any = wandb.init(project=project, name=name, dir=str(out), mode=mode, config=dict(settings))
        except Exception as error:  # errors of wandb and its HTTP library have many classes
            reason = " ".join(str(error).split())[:200]
            raise ExternalError(f"Weights & Biases did not start ({reason}); set WANDB_MODE=offline") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """Logs to MLFLOW_TRACKING_URI if it is set, else to files in the run folder."""

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any]) -> None:
        mlflow = _module("mlflow")
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:  # mlflow wants explicit consent for its file store
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            place = (out / "mlruns").absolute().as_uri()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "curate")
        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=place)
            existing = self._client.get_experiment_by_name(experiment)
            number = existing.experiment_id if existing else self._client.create_experiment(experiment)
            self._run: str = self._client.create_run(number, run_name=name).info.run_id
            for key, value in settings.items():
                self._client.log_param(self._run, key, str(value)[:500])
        except Exception as error:  # errors of MLflow and its database have many classes
            reason = " ".join(str(error).split())[:200]
            raise ExternalError(f"MLflow did not start ({reason}); see MLFLOW_TRACKING_URI") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


@dataclass(frozen=True)
class _OwnCallback:
    call: Callback

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.call(step, dict(values))

    def close(self) -> None:
        pass


def check_loggers(kinds: Iterable[str | Callback]) -> None:
    """Raise InputError for an unknown or uninstalled logger, before any time is spent."""
    for kind in kinds:
        if callable(kind):
            continue
        if kind not in _LOGGERS:
            raise InputError(
                f"log {kind!r} is unknown; choose from {', '.join(_LOGGERS)} (metrics.jsonl is always written)"
            )
        _module(kind)


def _module(kind: str) -> Any:
    try:
        return importlib.import_module(_MODULES[kind])
    except ImportError as error:
        raise InputError(f"log {kind} needs that package; install it with: pip install 'curate-lm[{kind}]'") from error
