"""Recipes that earlier releases wrote still load, wherever their classes are now."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from curate import Pipeline
from curate.component import fingerprint
from curate.errors import DataWarning
from curate.recipe import decode, encode

EARLIER = yaml.safe_load((Path(__file__).parent / "earlier_recipes.yaml").read_text(encoding="utf-8"))
# What some of them need to be allowed, each for the value that it has there.
ALLOWED = ("--trust-remote-code", "--run-programs", "--send-key x", "--vllm text", "--vllm x", "--url text")
RENAMED = {"centred": "centered"}
pytestmark = pytest.mark.filterwarnings("ignore:ADAPT.centred:curate.errors.DataWarning")


def _by_class(value: Any) -> Any:
    """A written component with the names of its classes alone, and fields by their present names."""
    if isinstance(value, list):
        return [_by_class(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {RENAMED.get(name, name): _by_class(item) for name, item in value.items()}
    return {**fields, "use": value["use"].rpartition(".")[2]} if "use" in value else fields


@pytest.mark.parametrize("written", EARLIER["components"], ids=lambda each: each["use"].rpartition(".")[2])
def test_every_component_loads_with_the_values_it_was_written_with(written: dict[str, Any]) -> None:
    loaded = decode(written, "recipe", ALLOWED)
    again = encode(loaded)
    assert _by_class(again) == _by_class(written)
    assert fingerprint(decode(again, "recipe", ALLOWED)) == fingerprint(loaded)


def test_a_renamed_field_warns() -> None:
    with pytest.warns(DataWarning, match="centred is called centered now"):
        decode({"use": "curate.reweighters.adapt.ADAPT", "anchors": "rows.parquet", "centred": True}, "recipe")


@pytest.mark.parametrize("text", EARLIER["pipelines"])
def test_every_pipeline_loads_and_is_written_alike(text: str) -> None:
    again = Pipeline.from_yaml(text, allow_plugins=ALLOWED).to_yaml()
    assert _by_class(yaml.safe_load(again)) == _by_class(yaml.safe_load(text))


def test_what_is_written_today_names_no_module_that_users_do_not_import() -> None:
    """So that the next move breaks no recipe; `FurtherData`, `Sampling` and the like are found by their names."""
    for written in EARLIER["components"]:
        path = encode(decode(written, "recipe", ALLOWED))["use"]
        assert path.count(".") <= 2, path
