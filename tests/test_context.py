"""Surroundings of a computation: a cache and a device that exist."""

from pathlib import Path

import pytest

from curate.context import Context
from curate.errors import InputError
from curate.storage.cache import Cache


def test_a_folder_is_a_cache_and_a_cache_stays_itself(tmp_path: Path) -> None:
    cache = Context(tmp_path / "cache").store
    assert (cache.root, Context(cache).store) == (tmp_path / "cache", cache)


def test_a_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        Context(tmp_path / "file")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "privateuseone", "vulkan", ""])
def test_a_device_that_cannot_be_used_is_named(device: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"device '{device}' cannot be used .*; try cpu"):
        Context(Cache(tmp_path), device).torch_device()
