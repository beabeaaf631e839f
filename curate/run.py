"""What a stage needs besides its data: cache, device, seed, progress and the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.cache import Cache, default_cache
from curate.component import fingerprint
from curate.errors import InputError
from curate.progress import Progress
from curate.protocols import Measure
from curate.proxy import Proxy

if TYPE_CHECKING:
    from curate.examples import Examples
    from curate.trace import Trace

__all__ = ["Run", "standalone"]


@dataclass
class Run:
    """The surroundings of one run; every field has a default, so that components work alone.

    device: "cpu", "cuda", "cuda:1"; None = a GPU if there is one.
    """

    proxy: Proxy = field(default_factory=Proxy)
    cache: Cache | Path | str | None = None
    device: str | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Progress)
    _traces: dict[str, Trace] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.cache, Cache):
            self.cache = Cache(Path(self.cache) if self.cache else default_cache())

    @property
    def store(self) -> Cache:
        assert isinstance(self.cache, Cache)
        return self.cache

    def torch_device(self) -> Any:
        import torch

        from curate import distributed

        distributed.start()
        if self.device is None:
            return distributed.local_device()
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"device {self.device!r} cannot be used ({str(error).splitlines()[0]}); try cpu"
            ) from error
        return device

    def trace(self, examples: Examples, measures: Sequence[Measure]) -> Trace:
        """Values of the measures at every checkpoint of the proxy; asked again, the answer is remembered.

        A pipeline asks for the union of what its scorers need before they ask one by one: one proxy run, and one
        pass over the data per checkpoint, serves them all.
        """
        from curate.trace import trace

        key = self._key(examples)
        known = self._traces.get(key)
        missing = {fingerprint(m): m for m in measures if known is None or fingerprint(m) not in known.values}
        if known is None or missing:
            found = trace(examples, self.proxy, list(missing.values()), self)
            if known is not None:
                found.values.update(known.values)
            self._traces[key] = known = found
        return known

    def facts(self, examples: Examples) -> dict[str, Any] | None:
        """About the proxy run over these examples; None if there was none."""
        known = self._traces.get(self._key(examples))
        return None if known is None else known.facts

    def _key(self, examples: Examples) -> str:
        return fingerprint([examples.fingerprint(), self.proxy, self.seed])


def standalone(data: Any, run: Run | None) -> tuple[Examples, Run]:
    """Examples and a Run for a component that is called by hand with a dataset and maybe no Run.

    data: Examples, what `curate.read` returned, or anything it reads.
    """
    from curate.examples import Examples
    from curate.readers import Loaded, read

    if not isinstance(data, Examples):
        data = (data if isinstance(data, Loaded) else read(data)).examples
    return data, run or Run()
