"""Read, resolve and write recipes: pipelines as YAML."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterable
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from curate.clusterers.estimators import checked, estimator, estimators
from curate.component import Component, Consent, stateless
from curate.errors import InputError, short_repr, suggestion
from curate.storage.folders import RECORD
from curate.storage.places import is_url
from curate.storage.plain_values import MOST_CHARACTERS, MOST_DEPTH, dump_yaml, file_text, parse_yaml
from curate.storage.records import read_finished
from curate.storage.remote import remote

# Modules in which bare names are looked up; strings, since `curate` does not import the packages that build on it.
_BUILT_IN = ("scorers", "curate.clusterers", "augmenters", "curate.generators")
_OWN = ("curate", "scorers", "augmenters")
# Current modules of classes that recipes may name by an earlier module.
_PUBLIC = (*_BUILT_IN, "curate.graders", "curate.optimizers", "curate.reweighters", "curate")
_HOMES = {
    "Addition": "curate.validation.config",
    "FurtherData": "curate.dataset_reference",
    "Gate": "curate.gate.gate",
    "Sampling": "curate.generators.requests",
}
_LONGEST_NAME = 200
# Paths of parts whose fields can be set with --set.
_PARTS = ("proxy", "scorer", "clusterer", "augmenters.")


def own_module(name: str) -> Any:
    """Import a module of `curate`, `scorers` or `augmenters`.

    Raises InputError, before running any of its code, if a package of the user has the same name.
    """
    _check_ours(name.partition(".")[0])
    return importlib.import_module(name)


def _check_ours(package: str) -> None:
    """Raise InputError if `package` is missing, or is found in another folder than this installation."""
    root = Path(__file__).resolve().parents[1]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a caller put a module without a spec into sys.modules
        spec = None
    if spec is None:
        raise InputError(f"the package {package} of curate is missing; install curate-lm again")
    places = list(spec.submodule_search_locations or ()) or [spec.origin or package]
    if any(Path(place).resolve() == root / package for place in places):
        return
    shadowing = Path(places[0]).absolute()
    on_path = [Path(part).absolute() for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    hidden = shadowing.parent in on_path
    remedy = f"take {shadowing.parent} out of PYTHONPATH" if hidden else "run the command in another folder"
    raise InputError(f"{shadowing} hides the package {package} of curate; rename it, or {remedy}")


def built_in(module: str, name: str, kind: str) -> str:
    """Dotted path of a component of a module, ignoring case. kind: of component, for the InputError that lists them."""
    names = component_names(module)
    exact = next((candidate for candidate in names if candidate.lower() == name.lower()), None)
    if exact is None:
        raise InputError(f"there is no {kind} {name!r}; choose one of {', '.join(names)}")
    return f"{module}.{exact}"


def component_names(module: str) -> list[str]:
    """Sorted names of the components that a module of curate exports."""
    loaded = own_module(module)
    public = {name: getattr(loaded, name) for name in loaded.__all__}
    return sorted(name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, Component))


def reweighter_from(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """A reweighter from a plain YAML value: its name, or a mapping with `use` and its parameters.

    path: of the value, for messages. allowed: further packages that `use` may refer to. Raises InputError.
    """
    value = {"use": value} if isinstance(value, str) else value
    if isinstance(value, dict):
        name = value.get("use")
        if isinstance(name, str) and "." not in name:
            value = value | {"use": built_in("curate.reweighters", name, "reweighter")}
    return decode(value, path, allowed)


def grader_from(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """A grader from a plain YAML value: its name, a dotted path, or a mapping with `use` and its parameters.

    path: of the value, for messages. allowed: further packages that `use` may refer to. Returns None for "auto", and a
    grader object unchanged. Raises InputError.
    """
    value = {"use": value} if isinstance(value, str) and value != "auto" else value
    if value is None or value == "auto":
        return None
    if isinstance(value, dict):
        name = value.get("use")
        if isinstance(name, str) and "." not in name:
            value = value | {"use": built_in("curate.graders", name, "grader")}
        value = decode(value, path, allowed)
    if not callable(getattr(value, "grade", None)):
        raise InputError(
            f"{path}: {short_repr(value, 80)} is not a grader; name one of "
            f"{', '.join(component_names('curate.graders'))}, or "
            "give an object with a method grade(completion, reference, row)"
        )
    return value


def optimizer_from(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """An optimizer from a plain YAML value: its name, or a mapping with `use` (else AdamW) and its parameters.

    Base optimizers have the same form: {use: SAM, rho: 0.1, base: {use: Muon}}.
    """
    return decode(_optimizer(value), path, allowed)


def _optimizer(value: Any) -> Any:
    """The plain value of an optimizer with full paths in `use`, including that of its base."""
    if isinstance(value, str):
        value = {"use": value}
    if not isinstance(value, dict):
        return value
    value = {key: _optimizer(item) if key in ("base", "adamw") else item for key, item in value.items()}
    name = value.setdefault("use", "AdamW")
    if isinstance(name, str) and "." not in name:
        value["use"] = built_in("curate.optimizers", name, "optimizer")
    return value


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("curate") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """The mapping in a recipe file (also at a URL), a shipped recipe, or the folder of a finished run."""
    if name in recipe_names():
        text = (resources.files("curate") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    elif is_url(name):
        content = remote(name).read(4 * MOST_CHARACTERS)
        if content is None:
            raise InputError(f"recipe {remote(name)} does not exist; check the spelling")
        return parse_recipe(_decoded(content, str(remote(name))), str(remote(name)))
    else:
        path = Path(name)
        if _is_file(path / RECORD):
            return parse_recipe(str(read_finished(path)["recipe_yaml"]), f"recipe of {name}")
        if not _is_file(path):
            recipes_here = [str(entry) for entry in path.parent.glob("*.y*ml") if entry.is_file()]
            shipped = recipe_names()
            hint = suggestion(name, [*recipes_here, *shipped], f"shipped recipes: {', '.join(shipped)}")
            raise InputError(
                f"recipe {name!r} is neither a file, nor the folder of a finished run, nor a shipped recipe; {hint}"
            )
        try:
            text = file_text(path, 4 * MOST_CHARACTERS)
        except (OSError, ValueError) as error:
            raise InputError(f"recipe {name} cannot be read ({error}); give a YAML file in UTF-8") from error
    return parse_recipe(text, name)


def _decoded(content: bytes, name: str) -> str:
    if len(content) > 4 * MOST_CHARACTERS:
        raise InputError(f"recipe {name} has more than {4 * MOST_CHARACTERS:,} bytes; give a YAML file in UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {name} cannot be read ({error}); give a YAML file in UTF-8") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def parse_recipe(text: str, name: str = "recipe") -> dict[str, Any]:
    """Parse a YAML text into a mapping, see `curate.storage.plain_values`; duplicate keys are errors."""
    value = parse_yaml(text, name)
    if not isinstance(value, dict):
        raise InputError(f"{name}: a recipe is a mapping of keys such as proxy, scorer, clusterer, augmenters")
    return value


def dump_recipe(mapping: dict[str, Any]) -> str:
    """YAML text that `parse_recipe` turns back into an equal mapping of what `encode` returns."""
    return dump_yaml(mapping)


def apply_settings(recipe: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The recipe with `path=value` settings applied, e.g. "proxy.steps=500" or "augmenters.0.times=2".

    Values are YAML. Raises InputError for a path that does not lead through the recipe.
    """
    changed = _copied(recipe)
    for setting in settings:
        path, equals, text = setting.partition("=")
        setting = setting if len(setting) <= 100 else setting[:97] + "..."
        if not equals or not path:
            raise InputError(f"--set {setting!r}: write path=value, for example --set proxy.steps=500")
        if path.count(".") >= MOST_DEPTH:
            raise InputError(
                f"--set {setting!r}: the path is nested more than {MOST_DEPTH} levels deep, which no recipe is"
            )
        value = parse_yaml(text, f"--set {setting!r}")
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


def _copied(value: Any) -> Any:
    """Copy nested mappings and lists; their values are shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _step(place: Any, part: str, path: str, setting: str) -> Any:
    """The item `part` of a list or mapping; a missing key gets an empty mapping. path, setting: for messages."""
    path = path if len(path) <= 100 else path[:97] + "..."
    if isinstance(place, list):
        # A number of many digits is one that no list has.
        if not (part.isascii() and part.isdigit() and len(part) < 10) or int(part) >= len(place):
            raise InputError(f"--set {setting!r}: {path} does not exist; the list has {len(place)} entries, from 0")
        return place[int(part)]
    if isinstance(place, dict):
        return place.setdefault(part, {})
    raise InputError(f"--set {setting!r}: {path} does not exist in the recipe")


def decode(value: Any, path: str, allowed: tuple[str, ...] = ()) -> Any:
    """Construct an object from every mapping with a `use` key; other values are returned unchanged.

    allowed: further packages that dotted paths may refer to, and options that allow a recipe to run other code (see
    `curate.component.Consent`). Raises InputError with the path of the key.
    """
    _check_slot(value, path)
    if isinstance(value, list):
        return [decode(item, f"{path}.{index}", allowed) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    fields = {str(key): decode(item, f"{path}.{key}", allowed) for key, item in value.items()}
    if "use" not in fields:
        return fields
    name = fields.pop("use")
    listed = estimator(name) if isinstance(name, str) and "sklearn" not in allowed else None
    kind = _resolve(name, path, allowed) if listed is None else checked(listed, fields, path)
    return construct(kind, fields, path, allowed)


def _check_slot(value: Any, path: str) -> None:
    """Raise InputError for a bare name in place of a mapping."""
    if path == "proxy" and isinstance(value, str):
        raise InputError(f"proxy: {value!r} is only a name; write proxy: {{model: {value}}}")
    if path.endswith(".clusterer") and isinstance(value, str) and value in _built_ins():
        raise InputError(f"{path}: {value!r} is only a name; write {{use: {value}}}")


def construct(kind: Any, fields: dict[str, Any], path: str, allowed: tuple[str, ...] = ()) -> Any:
    """`kind(**fields)`, with unknown and wrong fields explained in one line. allowed: see `decode`."""
    field_names = _fields_of(kind)
    component = isinstance(kind, type) and issubclass(kind, Component)
    earlier = {**kind.retired, **kind.renamed} if component else {}
    for key in fields:
        if field_names is not None and key not in field_names and key not in earlier:
            hint = suggestion(key, field_names, f"it knows {', '.join(field_names) or 'no keys'}")
            raise InputError(f"{path}: {kind.__name__} has no key {key!r}; {hint}")
    _check_consents(kind, fields, path, allowed)
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "missing" and len(first["loc"]) == 1 and path.startswith(_PARTS):
            name = first["loc"][0]
            raise InputError(
                f"{path}: {kind.__name__} needs {name!r}; give it with --set {path}.{name}=VALUE"
            ) from error
        message, last = validation_message(error), path.rpartition(".")[2]
        # Do not repeat the key of a part within one of its kind, such as clusterer.clusterer.
        raise InputError(f"{path}.{message}" if message.startswith(f"{last}: ") else f"{path}: {message}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {kind.__name__} cannot be made ({error}); check its keys") from error


def _check_consents(kind: Any, fields: dict[str, Any], path: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError for fields that run third-party code or send keys without the user's consent."""
    consents = kind.consents if isinstance(kind, type) and issubclass(kind, Component) else {}
    for name, consent in {"trust_remote_code": Consent(("--trust-remote-code",)), **consents}.items():
        if name not in fields or consent.harmless(fields[name]):
            continue
        words = [option.removeprefix("--allow-plugin ").split()[0] for option in consent.options]
        if not any(word in allowed or f"{word} {fields[name]}" in allowed for word in words):
            raise InputError(
                f"{path}: {name} = {short_repr(fields[name], 80)} lets other code run here, which needs permission; "
                f"pass {' or '.join(consent.options)} if you trust it"
            )
    refusal = kind.key_refusal(fields, allowed) if isinstance(kind, type) and issubclass(kind, Component) else None
    if refusal is not None:
        raise InputError(f"{path}: {refusal}")


def validation_message(error: ValidationError) -> str:
    """The first fault of a pydantic error, in one line with the key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained", "function-")))
    text = first["msg"].removeprefix("Value error, ")
    if not key:  # about several keys at once, which the message names
        return str(text)
    return f"{key}: {text} (got {short_repr(first.get('input'), 80)})"


def _fields_of(kind: Any) -> list[str] | None:
    """Names of the parameters of a class; None if it takes any, or they cannot be inspected."""
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
    """The class that `use` names: a built-in by its bare name, others by dotted path. Raises InputError."""
    if not isinstance(name, str):
        raise InputError(f"{path}.use: write the name of a component, not {short_repr(name, 80)}")
    if len(name) > _LONGEST_NAME:
        raise InputError(f"{path}.use: {short_repr(name, 80)} is longer than any name of a component")
    if "." not in name:
        names = _built_ins()
        if name not in names:
            hint = suggestion(name, names, f"built in: {', '.join(sorted(names))}")
            raise InputError(f"{path}.use: there is no component {name!r}; {hint}")
        return getattr(own_module(names[name]), name)
    package = name.split(".")[0]
    _check_package(package, name, path, allowed)
    module_name, _, attribute = name.rpartition(".")
    if package in _OWN and package not in allowed:
        own_module(package)
    try:
        kind = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # third-party modules may raise anything while they are imported
        kind = _moved(attribute) if package in _OWN else None
        if kind is None:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path}.use: {name!r} cannot be imported ({problem}); check the path") from error
    if not isinstance(kind, type) or (not attribute[:1].isupper()):
        raise InputError(f"{path}.use: {name!r} is not a class; name a component class")
    # A trusted module also has names imported from elsewhere, and classes that do more than store parameters.
    package = kind.__module__.split(".")[0]
    _check_package(package, name, path, allowed)
    if package in _OWN and package not in allowed and not issubclass(kind, Component):
        raise InputError(f"{path}.use: {name!r} is not a component; name one that has parameters only")
    return kind


def _moved(name: str) -> Any:
    """The class of curate that earlier releases had in another module; None if there is none of that name."""
    for module in _PUBLIC:
        public = own_module(module)
        if name in public.__all__:
            return getattr(public, name)
    return getattr(own_module(_HOMES[name]), name) if name in _HOMES else None


def _built_ins() -> dict[str, str]:
    """{class: module} of the classes that a recipe may name without a module."""
    modules = {module: own_module(module).__all__ for module in (*_BUILT_IN, "curate.graders")}
    return {name: module for module, names in modules.items() for name in names if name[0].isupper()}


def _check_package(package: str, name: str, path: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError for a package from which the recipe may not load code."""
    if package not in (*_OWN, *allowed):
        if package == "sklearn":
            raise InputError(
                f"{path}.use: {name!r} is not a scikit-learn estimator that recipes may use; choose one of "
                f"{estimators()}, or pass --allow-plugin sklearn if you trust the recipe"
            )
        raise InputError(
            f"{path}.use: {name!r} is code of the package {package!r}, which a recipe may not load by itself; "
            f"pass --allow-plugin {package} if you trust it"
        )


def encode(value: Any, path: str = "recipe") -> Any:
    """The plain YAML value that `decode` turns back into an equal object: None, bool, int, float, str, list and dict.

    path: of its key, for messages. Raises InputError for objects whose parameters cannot be written.
    """
    if isinstance(value, np.generic | Enum):
        value = value.value if isinstance(value, Enum) else value.item()
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        raise InputError(f"{path}: an array cannot be written into a recipe; give a list, array.tolist()")
    if isinstance(value, list | tuple):
        return [encode(item, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): encode(item, f"{path}.{key}") for key, item in value.items()}
    fields, defaults = _parameters_of(value, path)
    changed = {
        name: encode(item, f"{path}.{name}")
        for name, item in fields.items()
        if not _same(item, defaults.get(name, _MISSING))
    }
    return {"use": _name_of(type(value)), **changed}


def _parameters_of(value: Any, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, defaults) of an object."""
    kind = type(value)
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in kind.model_fields}
        defaults = {name: f.get_default(call_default_factory=True) for name, f in kind.model_fields.items()}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        defaults = {
            f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for f in dataclasses.fields(value)
        }
    elif not isinstance(value, type) and callable(getattr(value, "get_params", None)):
        fields = value.get_params(deep=False)
        defaults = {name: parameter.default for name, parameter in inspect.signature(kind.__init__).parameters.items()}
    elif stateless(value):
        fields, defaults = {}, {}
    else:
        raise InputError(
            f"{path}: {kind.__qualname__} cannot be written into a recipe; "
            "give a plain value, or an object of a dataclass, so that its parameters show"
        )
    return fields, defaults


_MISSING = object()


def _same(value: Any, default: Any) -> bool:
    comparable = type(value) is type(default) and not isinstance(value, np.ndarray)
    return default is not _MISSING and comparable and bool(value == default)


def _name_of(kind: type) -> str:
    """The name of a class in recipes. Raises InputError for one that cannot be imported."""
    for module in _BUILT_IN:
        if kind.__module__.split(".")[0] == module.split(".")[0]:
            loaded = own_module(module)
            if getattr(loaded, kind.__name__, None) is kind:
                return kind.__name__
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise InputError(
            f"{kind.__qualname__} is defined where no recipe can find it again; move it into an importable module"
        )
    if kind.__module__.split(".")[0] in _OWN:
        for module in _PUBLIC:  # the path that users import it by, which stays where its module moves
            if getattr(own_module(module), kind.__name__, None) is kind:
                return f"{module}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"
