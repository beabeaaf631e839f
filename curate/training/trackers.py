"""Trackers of metrics: TensorBoard, Weights & Biases, MLflow, and callables."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ExternalError, InputError, reason_of
from curate.storage.atomic import disk_errors

# Called with the step and its metrics.
Callback = Callable[[int, Mapping[str, float]], None]


class Tracker(ABC):
    """Destination of metrics."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of one step."""

    def close(self) -> None:
        """Finish, after the last step."""
        return


def open_trackers(
    kinds: Sequence[str | Callback], out: Path, name: str, settings: Mapping[str, Any], step: int = 0
) -> list[Tracker]:
    """The trackers `kinds`, each "tensorboard", "wandb", "mlflow" or a `Callback`.

    out: folder for their files. name, settings: of the run, for trackers that show them. step: steps already logged.
    """
    return [
        _TRACKERS[kind](out, name, settings, step) if isinstance(kind, str) else _OwnCallback(kind) for kind in kinds
    ]


@contextmanager
def tracking(
    kinds: Sequence[str | Callback], out: Path, name: str, settings: Mapping[str, Any]
) -> Iterator[Callback | None]:
    """One callback for all the trackers, open inside the context; None if there are none."""
    if not kinds:
        yield None
        return
    if any(isinstance(kind, str) for kind in kinds):
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
    trackers = open_trackers(kinds, out, name, settings)

    def write(step: int, values: Mapping[str, float]) -> None:
        for tracker in trackers:
            tracker.write(step, values)

    try:
        yield write
    finally:
        for tracker in trackers:
            tracker.close()


class _TensorBoard(Tracker):
    module = "torch.utils.tensorboard"

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any], step: int) -> None:
        writer = importlib.import_module(self.module).SummaryWriter
        self._writer: Any = writer(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases(Tracker):
    """Offline unless the environment holds a key or sets a mode, so that no login prompt blocks the run."""

    module = "wandb"

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any], step: int) -> None:
        wandb: Any = importlib.import_module(self.module)
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        project = os.environ.get("WANDB_PROJECT", "curate")
        try:
            self._run: Any = wandb.init(project=project, name=name, dir=str(out), mode=mode, config=dict(settings))
        except Exception as error:  # errors of wandb and its HTTP library have many classes
            raise ExternalError(
                f"Weights & Biases did not start ({reason_of(error)}); set WANDB_MODE=offline"
            ) from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow(Tracker):
    """Logs to MLFLOW_TRACKING_URI if it is set, else to files in the run folder."""

    module = "mlflow"

    def __init__(self, out: Path, name: str, settings: Mapping[str, Any], step: int) -> None:
        mlflow: Any = importlib.import_module(self.module)
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
            raise ExternalError(f"MLflow did not start ({reason_of(error)}); see MLFLOW_TRACKING_URI") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


@dataclass(frozen=True)
class _OwnCallback(Tracker):
    call: Callback

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.call(step, dict(values))


_Kind = type[_TensorBoard] | type[_WeightsAndBiases] | type[_MLflow]
_TRACKERS: dict[str, _Kind] = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MLflow}
TRACKERS = tuple(_TRACKERS)


def check_trackers(kinds: Iterable[str | Callback]) -> None:
    """Raise InputError for an unknown or uninstalled tracker, before any time is spent."""
    for kind in kinds:
        if callable(kind):
            continue
        if kind not in TRACKERS:
            raise InputError(f"log {kind!r} is unknown; choose from {', '.join(TRACKERS)}, or pass a function")
        try:
            importlib.import_module(_TRACKERS[kind].module)
        except ImportError as error:
            raise InputError(
                f"log {kind} needs that package; install it with: pip install 'curate-lm[{kind}]'"
            ) from error


def tracker_names(option: str | None) -> list[str]:
    """Names in the value of --log. Raises InputError for an unknown or uninstalled one."""
    names = [name.strip() for name in (option or "").split(",") if name.strip()]
    check_trackers(names)
    return names
