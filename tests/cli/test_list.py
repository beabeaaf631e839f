"""`curate list`: every component and recipe with a sentence of its own."""

import pytest

from curate.cli.list import KINDS, listed
from curate.recipe import component_names, recipe_names
from tests.fixtures.commands import Call


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_has_a_line(kind: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = listed(kind)
    assert len(found) >= 2
    assert [name for name, text in found.items() if not 10 < len(text) < 400] == []
    out = call("list", kind).out
    assert all(name in out for name in found)
    assert max(map(len, out.splitlines())) <= 100
    assert call("list", kind, "--json").json == {kind: found}


def test_what_recipes_may_name_is_listed() -> None:
    assert list(listed("recipes")) == recipe_names()
    assert list(listed("scorers")) == component_names("scorers")


def test_a_kind_that_is_none_is_named_with_those_there_are(call: Call) -> None:
    done = call("list", "models")
    assert done.status == 2
    assert "scorers" in done.error
