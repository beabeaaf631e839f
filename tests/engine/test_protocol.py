"""Ray is an engine."""

import inspect

from curate.engine import Ray
from curate.engine.protocol import Engine


def test_ray_has_every_method_with_the_same_parameters() -> None:
    names = [name for name in vars(Engine) if not name.startswith("_") and callable(getattr(Engine, name))]
    assert {"map", "jobs", "group", "numerics"} <= set(names)
    for name in names:
        assert inspect.signature(getattr(Ray, name)) == inspect.signature(getattr(Engine, name)), name
    assert Ray(train_workers=3).train_workers == 3
