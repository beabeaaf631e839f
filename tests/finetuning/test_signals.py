"""A signal ends a run once its step is saved."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import curate
import curate.finetuning.signals as signals
import curate.training.step
from curate.finetuning.finetune import finetune
from tests.fixtures.finetuning import losses, same, settings, table, weights


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_obeyed_once_the_step_is_saved(
    number: signal.Signals, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(*_: Any) -> None:
        raise Ended

    calls: list[int] = []
    real = curate.training.step.TrainingStep.__call__

    def signaled(self: Any, **arguments: Any) -> float:
        calls.append(self.step)
        if self.step in at:
            for _ in range(times):
                signal.raise_signal(number)
        return real(self, **arguments)

    monkeypatch.setattr(curate.training.step.TrainingStep, "__call__", signaled)
    before = signal.signal(number, end)
    run, at, times = tmp_path / "run", {2}, 1
    try:
        with pytest.raises(Ended):
            finetune(table(), settings(model), run, arm="same")
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
        at = {4}
        monkeypatch.setattr(signals, "_ECHO_SECONDS", -1.0)
        times = 2
        with pytest.raises(Ended):  # at once the second time, and the step is lost
            finetune(table(), settings(model), run, arm="same")
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
        monkeypatch.undo()
        at = {5}
        monkeypatch.setattr(curate.training.step.TrainingStep, "__call__", signaled)
        times = 1
        with pytest.raises(Ended):  # in the last step: the run is finished first
            finetune(table(), settings(model), run, arm="same")
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert calls == [0, 1, 2, 3, 4, 3, 4, 5]
    at = set()
    finetune(table(), settings(model), tmp_path / "whole", arm="same")
    assert losses(run) == losses(tmp_path / "whole")
    assert same(weights(run), weights(tmp_path / "whole"))
