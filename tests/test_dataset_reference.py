"""A further dataset: bare, with reading options, or as it is named on the command line."""

from typing import Any

import pyarrow as pa
import pytest

from curate.component import Component
from curate.dataset_reference import FurtherData, GivenData, in_braces, named_dataset
from curate.errors import InputError


class Reader(Component):
    target: GivenData


def test_a_bare_dataset_and_one_with_options_are_the_same_kind() -> None:
    table = pa.table({"text": ["a"]})
    assert Reader(target="rows.jsonl").target == FurtherData(data="rows.jsonl")
    options = {"data": "rows.jsonl", "where": "split=test", "limit": 3}
    assert Reader(target=options).target == FurtherData(**options)
    assert Reader(target=table).target.data is table
    assert FurtherData(**options).reading == {
        "where": "split=test",
        "limit": 3,
    }
    assert [FurtherData(data=data).name for data in ("rows.jsonl", table)] == ["rows.jsonl", "Table"]


@pytest.mark.parametrize(
    "role", ["bot=assistant,me=user", ("bot=assistant", "me=user"), {"bot": "assistant", "me": "user"}]
)
def test_speakers_are_named_in_a_text_a_list_or_a_mapping(role: Any) -> None:
    assert ",".join(FurtherData(data="rows.jsonl", role=role).role) == "bot=assistant,me=user"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("fix it", "fix it"),
        (
            "name its encoding, e.g. --encoding cp1252",
            "name its encoding, e.g. encoding cp1252 (written {data: FILE, encoding: NAME})",
        ),
        (
            "--role bot=x; see --columns",
            "role bot=x; see columns (written {data: FILE, role: bot=assistant, columns: {prompt: COLUMN, "
            "completion: COLUMN}})",
        ),
    ],
)
def test_options_of_a_command_are_said_as_they_are_written_in_braces(message: str, said: str) -> None:
    assert in_braces(message) == said


def test_a_name_is_itself_and_a_mapping_is_yaml() -> None:
    assert named_dataset("rows.jsonl", "--against") == "rows.jsonl"
    assert named_dataset("{data: rows.jsonl, where: split=test}", "--against") == {
        "data": "rows.jsonl",
        "where": "split=test",
    }


@pytest.mark.parametrize("text", ["{where: split=test}", "{data: 3}", "{data"])
def test_a_mapping_without_data_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"--against.*write \{data: FILE, where: split=test\}"):
        named_dataset(text, "--against")


def test_an_address_that_gives_access_is_not_named_where_it_would_be_recorded() -> None:
    for text in ("https://host/x.csv?sig=secret", "{data: 'https://host/x.csv?token=secret', split: test}"):
        with pytest.raises(InputError, match=r"--evaluation https://host/x.csv: its query gives access") as caught:
            named_dataset(text, "--evaluation")
        assert "secret" not in str(caught.value)
    assert named_dataset("https://host/x.csv?download=1", "--evaluation") == "https://host/x.csv?download=1"
