"""Fingerprints: equal for equal parameters, different for different ones, and an error that helps."""

import dataclasses
import functools
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.cluster import OPTICS
from sklearn.cluster import KMeans as SklearnKMeans

from augmenters import Duplicate
from curate.component import Component, brief, call_hook, describe, describe_in_json, fingerprint, stateless
from curate.errors import DataWarning, InputError
from curate.proxy.proxy import Proxy
from curate.recipe import construct


class _Knob(Component):
    value: int = 1
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Plain:
    value: int = 1


class _Opaque:
    def __init__(self) -> None:
        self.hidden = object()


def test_components_are_frozen_checked_and_comparable() -> None:
    knob = _Knob(value=2)
    assert knob == _Knob(value=2) != _Knob(value=3)
    assert pickle.loads(pickle.dumps(knob)) == knob
    with pytest.raises(ValueError, match="frozen"):
        knob.value = 3
    with pytest.raises(ValueError, match="extra"):
        _Knob(other=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_Knob(), _Knob(value=2)),
        (_Plain(), _Plain(2)),
        (SklearnKMeans(2), SklearnKMeans(3)),
        (np.arange(3), np.arange(4)),
        (np.zeros(3, np.float32), np.zeros(3, np.float64)),
        ({"a": 1}, {"a": 1.5}),
        (1, True),
        ("1", 1),
    ],
)
def test_fingerprint_separates(one: object, other: object) -> None:
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


def test_version_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(_Knob())
    monkeypatch.setattr(_Knob, "version", 2)
    assert fingerprint(_Knob()) != before


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from curate.component import fingerprint; from curate.proxy.proxy import Proxy; print(fingerprint(Proxy()))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == fingerprint(Proxy())


def test_opaque_object_is_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"make it a dataclass, or add a method `fingerprint"):
        fingerprint(_Opaque())


def test_own_fingerprint_method_is_used() -> None:
    class _Said:
        def __init__(self, text: str) -> None:
            self.text, self.hidden = text, object()

        def fingerprint(self) -> str:
            return self.text

    assert fingerprint(_Said("a")) == fingerprint(_Said("a")) != fingerprint(_Said("b"))


def test_description_is_plain_json() -> None:
    assert describe(_Knob(names=("x",))) == {
        "use": f"{__name__}._Knob",
        "version": 1,
        "value": 1,
        "names": ["x"],
    }


class _Empty:
    """Says it all."""


class _Child(_Empty):
    """Says it all, too."""


class _Slotted:
    __slots__ = ("hidden",)


class _Below(_Slotted):
    __slots__ = ()


def test_only_what_holds_nothing_is_stateless() -> None:
    assert fingerprint(_Empty()) == fingerprint(_Empty()) != fingerprint(_Child())
    assert stateless(_Empty())
    assert stateless(_Child())
    hiding = [_Opaque(), _Slotted(), _Below(), object(), functools.partial(print, 1), lambda: 1, print, b"", 1j, {1}]
    assert [value for value in hiding if stateless(value)] == []


@pytest.mark.parametrize(
    "value", [functools.partial(print, 1), lambda: 1, _Below()], ids=["partial", "lambda", "slots"]
)
def test_what_hides_its_state_has_no_fingerprint(value: object) -> None:
    with pytest.raises(InputError, match="no readable parameters"):
        fingerprint(value)


class Renamed(Component):
    """A component with a field that was called otherwise, and one that is gone."""

    hue: bool = False
    renamed: ClassVar[Mapping[str, str]] = {"tint": "hue"}
    retired: ClassVar[Mapping[str, str]] = {"shade": "the hue says it"}


def test_an_earlier_name_of_a_field_is_read_and_warned_of_once() -> None:
    with pytest.warns(DataWarning, match="tint is called hue now; rename it") as warned:
        found = Renamed(tint=True)
    assert len(warned) == 1
    assert found == Renamed(hue=True)
    with pytest.warns(DataWarning, match="tint"):
        assert construct(Renamed, {"tint": True}, "x") == found


def test_a_renamed_field_keeps_its_place_in_the_fingerprint() -> None:
    assert describe(Renamed(hue=True))["tint"] is True
    assert "hue" not in describe(Renamed())


def test_a_field_by_both_names_is_refused() -> None:
    with pytest.raises(ValidationError, match="tint and hue are the same field"):
        Renamed(tint=True, hue=True)


def test_a_retired_field_is_read_and_not_used() -> None:
    with pytest.warns(DataWarning, match="shade is not used any more: the hue says it; remove it"):
        assert Renamed(shade=3) == Renamed()


def test_an_optional_method_is_called_where_there_is_one() -> None:
    assert call_hook("a", "upper") == "A"
    assert call_hook("a", "check_ready") is None
    with pytest.raises(ZeroDivisionError):  # what it raises is its own answer
        call_hook(type("Part", (), {"check": lambda self, k: k / 0})(), "check", 1)


def test_numbers_that_json_does_not_have_are_text_in_a_record() -> None:
    found = describe_in_json([OPTICS(), float("-inf"), 1.5])
    assert (found[0]["max_eps"], found[1:]) == ("Infinity", ["-Infinity", 1.5])
    json.dumps(found, allow_nan=False)


def test_a_component_takes_no_number_that_is_none() -> None:
    class Scaled(Component):
        factor: float = 1.0

    for value in ("nan", "inf", "-inf"):
        with pytest.raises(ValidationError, match="finite"):
            Scaled(factor=float(value))


def test_what_is_shown_of_a_component_is_what_a_reader_needs() -> None:
    class Own:
        pass

    assert brief(Own()) == "Own()"
    assert brief(_Knob(value=3)) == "_Knob(value=3)"
    shown = str(inspect.signature(Duplicate))
    assert shown.startswith("(*, times: Union[int, Literal['auto']] = 1, ")
    assert "Annotated" not in shown
