"""Running out of memory is known apart from other errors, and on all ranks at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curate.devices import distributed
from curate.devices.memory import OutOfMemory, free_gpu_share, leave_gpus, on_all_ranks, out_of_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
    ],
)
def test_a_failed_allocation_is_known(error: RuntimeError, memory: bool) -> None:
    assert out_of_memory(error) == memory


def raising(error: Exception) -> Any:
    def compute() -> None:
        raise error

    return compute


def test_this_ranks_own_error_is_raised_and_others_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(distributed, "sum_", lambda tensor: told.append(tensor.item()) or tensor)
    on_all_ranks(lambda: None, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        on_all_ranks(raising(torch.OutOfMemoryError("CUDA out of memory")), CPU)
    assert told == [0.0, 1.0]
    with pytest.raises(RuntimeError, match="shapes"):
        on_all_ranks(raising(RuntimeError("shapes")), CPU)


def test_an_error_on_another_rank_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "sum_", lambda tensor: tensor + 1)
    with pytest.raises(OutOfMemory, match="another rank"):
        on_all_ranks(lambda: None, CPU)


def test_unused_memory_goes_back_where_a_gpu_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cache"))
    for used in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda used=used: used)
        leave_gpus()
    assert emptied == ["cache"]


def test_the_fullest_gpu_says_how_much_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert free_gpu_share() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: [(60, 80), (20, 80)][device])
    assert free_gpu_share() == 0.25
