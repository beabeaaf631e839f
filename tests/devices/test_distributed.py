"""Without a process group every collective is that of one process; gradients are summed in buckets of one type."""

from __future__ import annotations

import pytest
import torch

from curate.devices import distributed


def test_one_process_is_its_own_world() -> None:
    distributed.start()  # no torchrun, no group
    assert not torch.distributed.is_initialized()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    distributed.barrier()
    tensor = torch.tensor([1.0, 2.0])
    assert distributed.sum_(tensor) is tensor
    distributed.broadcast_([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert [distributed.any_rank(flag) for flag in (True, False)] == [True, False]
    parameter = torch.nn.Parameter(torch.zeros(2))
    distributed.sum_gradients_([parameter])
    assert parameter.grad is None


def test_buckets_hold_consecutive_parameters_of_one_type_up_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_BUCKET_ELEMENTS", 10)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (2, torch.bfloat16)]
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size, dtype in sizes]
    buckets = distributed._buckets(parameters)
    assert [p for bucket in buckets for p in bucket] == parameters
    assert [[p.numel() for p in bucket] for bucket in buckets] == [[4, 6], [1], [30], [2]]
    assert distributed._buckets([]) == []
