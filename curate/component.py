"""Components: frozen parameters that are validated, compared, pickled and fingerprinted."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Container, Mapping
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from curate.data.examples import hash_columns
from curate.data.sources import open_data
from curate.errors import DataWarning, InputError

_TABULAR = ("datasets", "pandas", "pyarrow")
_OWN_PACKAGES = ("curate", "scorers", "augmenters")
# Modules from which users import components; stable, since names in recipes and cache keys depend on them.
_PUBLIC_MODULES = (
    *("curate.clusterers", "curate.generators", "curate.graders", "curate.optimizers", "curate.reweighters"),
    *_OWN_PACKAGES,
)


class _Bare:
    """An empty class, to compare the size of its instances."""


@dataclasses.dataclass(frozen=True)
class Consent:
    """Command-line options that allow a recipe to set a field that runs third-party code.

    options: any one of them is enough. harmless: whether a value runs no such code. A field `trust_remote_code` needs
    no declaration: it always requires --trust-remote-code.
    """

    options: tuple[str, ...]
    harmless: Callable[[Any], bool] = lambda value: not value


class Component(BaseModel):
    """A frozen set of validated parameters; constructing one loads nothing.

    A plug-in needs no base class: anything with readable parameters (a dataclass, a scikit-learn estimator, an object
    with `fingerprint()`) has a fingerprint, and for anything else the error says what to add.

    `version` is part of the fingerprint: increase it when the meaning of a component's output changes, so that
    earlier cached results are not used. `consents`: {field: required consent} in recipes; objects constructed in Python
    need none. `retired`: {field of earlier releases: replacement}; setting one warns (DataWarning), and the value is
    ignored. `renamed`: {earlier name: current name}; setting the earlier one warns, and the value is used. Fingerprints
    keep the earlier name, so that cached results stay valid. `superseded`: {field: why an alternative is better};
    fields that still work, but warn for values other than the default. `added`: fields added later; they are not part
    of the fingerprint while they have their default, for the same reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    version: ClassVar[int] = 1
    consents: ClassVar[Mapping[str, Consent]] = {}
    retired: ClassVar[Mapping[str, str]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}
    superseded: ClassVar[Mapping[str, str]] = {}
    added: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Show parameters in `help` and notebooks with plain types, without the conditions on their values."""
        super().__pydantic_init_subclass__(**kwargs)
        try:
            signature = inspect.signature(cls)
        except (TypeError, ValueError, NameError):
            return
        parameters = [
            parameter.replace(annotation=_plain(parameter.annotation)) for parameter in signature.parameters.values()
        ]
        cls.__signature__ = signature.replace(parameters=parameters)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_releases(cls, fields: Any) -> Any:
        """Translate renamed fields and drop retired ones, with warnings."""
        if not (cls.retired or cls.renamed or cls.superseded) or not isinstance(fields, Mapping):
            return fields
        for name in cls.superseded.keys() & fields.keys():
            if fields[name] and fields[name] != cls.model_fields[name].default:
                warnings.warn(
                    f"{cls.__name__}.{name} is kept for earlier recipes: {cls.superseded[name]}",
                    DataWarning,
                    stacklevel=2,
                )
        for old in cls.renamed.keys() & fields.keys():
            new = cls.renamed[old]
            if new in fields:
                raise ValueError(f"{old} and {new} are the same field; give {new} alone")
            warnings.warn(f"{cls.__name__}.{old} is called {new} now; rename it", DataWarning, stacklevel=2)
        fields = {cls.renamed.get(name, name): value for name, value in fields.items()}
        for name in cls.retired.keys() & fields.keys():
            warnings.warn(
                f"{cls.__name__}.{name} is not used any more: {cls.retired[name]}; remove it",
                DataWarning,
                stacklevel=2,
            )
        return {name: value for name, value in fields.items() if name not in cls.retired}

    @classmethod
    def key_refusal(cls, fields: Mapping[str, Any], given: Container[str]) -> str | None:
        """Why a recipe with these fields may not send a secret of the user, with the option that allows it, or None.

        given: options on the command line, such as "--send-key NAME".
        """
        return None


def _plain(annotation: Any) -> Any:
    """A type without `Annotated`, at any depth of unions."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(inside[0])
    if origin in (Union, UnionType):
        return Union[tuple(map(_plain, inside))]  # noqa: UP007 (of a number of types that is not known)
    return annotation


def describe(value: Any) -> Any:
    """`value` as plain JSON types, such that equal descriptions imply equal behavior.

    Raises InputError, with the remedy, for an object whose parameters cannot be read.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).hexdigest()
        return {"array": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, type) or (callable(value) and getattr(value, "__name__", "<lambda>") != "<lambda>"):
        return public_path(value)
    described = {"use": public_path(type(value))}
    if type(value).__module__.partition(".")[0] in _TABULAR:
        return {**described, "content": _content(value)}
    return {**described, **_parameters(value)}


def describe_in_json(value: Any) -> Any:
    """Like `describe`, for a record: numbers without a JSON form, such as infinity, are text."""
    return json.loads(json.dumps(describe(value)), parse_constant=str)


def public_path(kind: Any) -> str:
    """The dotted path that identifies a class or function, independent of the module that defines it.

    Cache keys contain it: it is the path from which users import a component, or the top-level package and name of
    internal classes, so that modules can move. Classes of other packages are identified by their own module.
    """
    package = kind.__module__.partition(".")[0]
    if package not in _OWN_PACKAGES:
        return f"{kind.__module__}.{kind.__qualname__}"
    home = kind.__module__ + "."
    for module in _PUBLIC_MODULES:
        if home.startswith(module + "."):
            public: Any = getattr(sys.modules[module], kind.__qualname__, None)
            if public is kind:
                return f"{module}.{kind.__qualname__}"
    return f"{package}.{kind.__qualname__}"


def _content(rows: Any) -> str:
    """32 hex digits, a hash of every cell of a table, frame or dataset in memory."""
    table = open_data(rows, {}, None, None).table
    return hash_columns([(name, table[name]) for name in table.column_names])


def _parameters(value: Any) -> dict[str, Any]:
    """Described parameters of an object. Raises InputError if they cannot be read."""
    if isinstance(value, Component):
        earlier = {new: old for old, new in type(value).renamed.items()}
        fields = {
            earlier.get(name, name): describe(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if name not in type(value).added or getattr(value, name) != field.default
        }
        return {"version": type(value).version, **fields}
    fingerprint_method = getattr(value, "fingerprint", None)
    if callable(fingerprint_method):
        return {"fingerprint": str(fingerprint_method())}
    if isinstance(value, BaseModel):
        return {name: describe(getattr(value, name)) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    get_params = getattr(value, "get_params", None)
    if callable(get_params):
        return {str(name): describe(param) for name, param in get_params(deep=False).items()}
    if stateless(value):
        return {}
    raise InputError(
        f"{type(value).__qualname__} has no readable parameters, so its results cannot be cached: make it a "
        f"dataclass, or add a method `fingerprint(self) -> str` that changes whenever its behavior does"
    )


def brief(value: Any) -> str:
    """A short repr: the component's name and the parameters that differ from the defaults."""
    if isinstance(value, Component):
        fields = type(value).model_fields
        parameters = {name: getattr(value, name) for name in fields}
        changed = [
            f"{name}={brief(parameter)}"
            for name, parameter in parameters.items()
            if parameter != fields[name].get_default(call_default_factory=True)
        ]
        return f"{type(value).__name__}({', '.join(changed)})"
    if isinstance(value, list | tuple) and any(isinstance(parameter, Component) for parameter in value):
        return f"[{', '.join(map(brief, value))}]"
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__qualname__.rpartition('.')[2]}()"  # not the address, which says nothing
    return " ".join(repr(value).split())


def stateless(value: Any) -> bool:
    """Whether an object has no state besides its class.

    An instance larger than that of an empty class has state outside its `__dict__`, as objects implemented in C do,
    functions included.
    """
    kind = type(value)
    slots = [vars(base).get("__slots__") for base in kind.__mro__]
    empty = getattr(value, "__dict__", None) == {} or slots[0] == ()
    return empty and not any(slots) and kind.__basicsize__ <= _Bare.__basicsize__ and kind.__itemsize__ == 0


def call_hook(part: Any, name: str, *arguments: Any) -> Any:
    """Call an optional method of a plug-in; None if it has no such method."""
    hook = getattr(part, name, None)
    return None if hook is None else hook(*arguments)


def fingerprint(value: Any) -> str:
    """32 hex digits that change when the described parameters do; stable across processes and machines."""
    text = json.dumps(describe(value), sort_keys=True, ensure_ascii=True, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
