"""The settings of Ray."""

import pytest
from pydantic import ValidationError

from curate.engine import Ray


def test_nothing_is_connected_before_it_is_needed() -> None:
    with Ray(address="127.0.0.1:1", workers=3) as engine:
        assert engine.record() == {}
        engine.notify(print)
    engine.close()


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"worker_cpus": 0}, {"train_workers": 0}, {"nodes": 2}])
def test_settings_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Ray(**wrong)
