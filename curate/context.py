"""Context of a computation: cache, device, seed, progress and engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.console.progress import Progress
from curate.devices import distributed
from curate.devices.precision import Precision, numerics
from curate.engine.protocol import Engine
from curate.storage.cache import Cache
from curate.storage.places import check_cache
from curate.storage.remote_cache import open_cache


@dataclass
class Context:
    """Environment of a computation; every field has a default.

    cache: a Cache, or a folder or URL; None = the user's. device: "cpu", "cuda", "cuda:1"; None = a GPU if there is
        one. engine: its workers compute; None = this process, or with torchrun its ranks.
    log: called in this process with the step and the metrics of every optimizer step of a proxy; None = never.
    """

    cache: Cache | Path | str | None = None
    device: str | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Progress)
    engine: Engine | None = None
    log: Callable[[int, Mapping[str, float]], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.cache, Cache):
            self.cache = open_cache(self.cache)
            check_cache(self.cache.root)
        if self.engine is not None:
            self.engine.notify(self.progress.note)

    @property
    def store(self) -> Cache:
        assert isinstance(self.cache, Cache)
        return self.cache

    def numerics(self, precision: Precision) -> dict[str, Any]:
        """Numerics of the workers or of this process, see `curate.devices.precision.numerics`."""
        if self.engine is not None:
            return self.engine.numerics(precision)
        return numerics(precision, self.torch_device())

    def torch_device(self) -> Any:
        """The torch.device of this process; joins its process group first. Raises InputError for an unusable one."""
        distributed.start()
        return distributed.local_device() if self.device is None else distributed.named_device(self.device)
