"""Recipes: a pipeline written down, and back."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from curate.errors import InputError

__all__ = ["apply_settings", "decode", "encode", "load_recipe", "recipe_names", "validation_message"]

# Where bare names are looked up. Named as strings: the engine does not import the packages that build on it.
_BUILT_IN = ("scorers", "curate.clusterers", "augmenters")
_TRUSTED = ("curate", "scorers", "augmenters", "sklearn")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("curate") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """The mapping in a recipe file, or in a shipped recipe named without a path."""
    if name in recipe_names():
        text = (resources.files("curate") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        path = Path(name)
        if not path.is_file():
            near = difflib.get_close_matches(name, recipe_names(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; shipped recipes: {', '.join(recipe_names())}"
            raise InputError(f"recipe {name!r} is neither a file nor a shipped recipe{hint}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {name} cannot be read ({error}); give a YAML file in UTF-8") from error
    return parse_recipe(text, name)


def parse_recipe(text: str, name: str = "recipe") -> dict[str, Any]:
    """A YAML mapping, loaded safely; duplicate keys are errors."""
    try:
        value = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" line {line + 1}" if line is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{name}{where}: not readable as plain YAML ({problem})") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: a recipe is a mapping of keys such as proxy, scorer, clusterer, augmenters")
    return value


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def apply_settings(recipe: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The recipe with `path=value` settings applied, e.g. "proxy.steps=500" or "augmenters.0.times=2".

    Values are YAML. Raises InputError for a path that does not lead through the recipe.
    """
    changed = yaml.safe_load(yaml.safe_dump(recipe))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise InputError(f"--set {setting!r}: write path=value, for example --set proxy.steps=500")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting!r}: the value is not readable as YAML") from error
        *parents, last = path.split(".")
        place: Any = changed
        for depth, part in enumerate(parents):
            place = _step(place, part, ".".join(parents[: depth + 1]), setting)
        if isinstance(place, list):
            _step(place, last, path, setting)
            place[int(last)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise InputError(f"--set {setting!r}: {'.'.join(parents)} is a plain value and has no {last!r}")
    return dict(changed)


def _step(place: Any, part: str, path: str, setting: str) -> Any:
    if isinstance(place, list):
        if not part.isdigit() or int(part) >= len(place):
            raise InputError(f"--set {setting!r}: {path} does not exist; the list has {len(place)} entries, from 0")
        return place[int(part)]
    if isinstance(place, dict):
        return place.setdefault(part, {})
    raise InputError(f"--set {setting!r}: {path} does not exist in the recipe")


def decode(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """Turn every mapping with a `use` key into the object it names; other values stay as they are.

    allowed: further packages that dotted paths may lead into. Raises InputError with the path of the key.
    """
    if isinstance(value, list):
        return [decode(item, f"{path}.{index}", allowed) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    fields = {str(key): decode(item, f"{path}.{key}", allowed) for key, item in value.items()}
    if "use" not in fields:
        return fields
    name = fields.pop("use")
    kind = _resolve(name, path, allowed)
    return construct(kind, fields, path)


def construct(kind: Any, fields: dict[str, Any], path: str) -> Any:
    """`kind(**fields)`, with unknown and wrong fields explained in one line."""
    known = _fields_of(kind)
    for key in fields:
        if known is not None and key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known) or 'no keys'}"
            raise InputError(f"{path}: {kind.__name__} has no key {key!r}; {hint}")
    try:
        return kind(**fields)
    except ValidationError as error:
        raise InputError(f"{path}: {validation_message(error)}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {kind.__name__} cannot be made ({error}); check its keys") from error


def validation_message(error: ValidationError) -> str:
    """The first fault pydantic found, in one line that names the key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained", "function-")))
    given = repr(first.get("input"))
    text = first["msg"].removeprefix("Value error, ")
    return f"{key}: {text} (got {given if len(given) < 80 else given[:77] + '...'})"


def _fields_of(kind: Any) -> list[str] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters]


def _resolve(name: Any, path: str, allowed: tuple[str, ...]) -> Any:
    if not isinstance(name, str):
        raise InputError(f"{path}.use: write the name of a component, not {name!r}")
    if "." not in name:
        names: dict[str, str] = {}
        for module in _BUILT_IN:
            names |= {each: module for each in importlib.import_module(module).__all__ if each[0].isupper()}
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"built in: {', '.join(sorted(names))}"
            raise InputError(f"{path}.use: there is no component {name!r}; {hint}")
        return getattr(importlib.import_module(names[name]), name)
    package = name.split(".")[0]
    if package not in (*_TRUSTED, *allowed):
        raise InputError(
            f"{path}.use: {name!r} is code of the package {package!r}, which a recipe may not load by itself; "
            f"pass --allow-plugin {package} if you trust it"
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{path}.use: {name!r} cannot be imported ({error}); check the path") from error
    if not isinstance(kind, type) or (not attribute[:1].isupper()):
        raise InputError(f"{path}.use: {name!r} is not a class; name a component class")
    return kind


def encode(value: Any) -> Any:
    """The plain YAML value that `decode` turns back into an equal object.

    Raises InputError for objects whose parameters cannot be written down.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    kind = type(value)
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in kind.model_fields}
        defaults = {name: f.get_default(call_default_factory=True) for name, f in kind.model_fields.items()}
    elif dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        defaults = {
            f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for f in dataclasses.fields(value)
        }
    elif callable(getattr(value, "get_params", None)):
        fields = value.get_params(deep=False)
        defaults = {name: parameter.default for name, parameter in inspect.signature(kind.__init__).parameters.items()}
    elif not getattr(value, "__dict__", {}):
        fields, defaults = {}, {}
    else:
        raise InputError(
            f"{kind.__qualname__} cannot be written into a recipe; make it a dataclass, so that its parameters show"
        )
    changed = {name: encode(item) for name, item in fields.items() if not _same(item, defaults.get(name, _MISSING))}
    return {"use": _name_of(kind), **changed}


_MISSING = object()


def _same(value: Any, default: Any) -> bool:
    return default is not _MISSING and type(value) is type(default) and bool(value == default)


def _name_of(kind: type) -> str:
    for module in _BUILT_IN:
        if kind.__module__.split(".")[0] == module.split(".")[0]:
            loaded = importlib.import_module(module)
            if getattr(loaded, kind.__name__, None) is kind:
                return kind.__name__
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise InputError(
            f"{kind.__qualname__} is defined where no recipe can find it again; move it into a module of its own"
        )
    return f"{kind.__module__}.{kind.__qualname__}"
