"""Number formats follow the hardware."""

from __future__ import annotations

import json

import pytest
import torch

from curate.devices.precision import default_token_budget, numerics, resolve_precision
from curate.errors import InputError


@pytest.mark.parametrize("fast", ["_is_amx_tile_supported", "_is_avx512_bf16_supported", None])
def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, fast: str | None) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == fast)
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == (torch.float32 if fast is None else torch.bfloat16)
    assert resolve_precision("float32", cpu) == torch.float32
    for capability, dtype in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((10, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, found=capability: found)
        assert resolve_precision("auto", torch.device("cuda")) == dtype


def test_a_precision_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match='precision is "float16"'):
        resolve_precision("float16", torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("threads", "tokens"), [(1, 1024), (2, 1024), (8, 4096), (64, 8192)])
def test_a_cpu_takes_as_many_tokens_as_its_caches_hold(
    threads: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert default_token_budget(torch.device("cpu")) == tokens
    assert default_token_budget(torch.device("meta")) == 32768


def test_numerics_change_with_precision_and_threads_and_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    single, half = numerics("float32", cpu), numerics("bfloat16", cpu)
    assert json.loads(json.dumps(single)) == single
    assert {key for key in single if single[key] != half[key]} == {"precision"}
    monkeypatch.setattr(torch, "get_num_threads", lambda: single["threads"] + 1)
    assert numerics("float32", cpu)["threads"] == single["threads"] + 1
