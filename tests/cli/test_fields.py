"""Options from fields: each says at the field what it is, and sets that field."""

import argparse
from typing import Annotated, Literal

import pytest
from pydantic import Field

from curate.cli.fields import add_field_options, field_values, is_range, option_of, options_of
from curate.component import Component


class Example(Component):
    name: str = Field(description="what it is called")
    rows: int = Field(default=3, ge=1, description="how many")
    share: float | None = Field(default=None, description="of the rows, 5 %")
    kind: Literal["easy", "hard"] = Field(default="hard", description="which ones")
    length: Annotated[int, Field(ge=2)] | Literal["auto"] = Field(default=512, description="tokens")
    stop: tuple[str, ...] = Field(default=(), description="text that ends it")
    quietly: bool = Field(default=False, description="say nothing")
    undocumented: int = 1


NAMES = ("name", "rows", "share", "kind", "length", "stop", "quietly")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="x")
    add_field_options(made, Example, NAMES, {"rows": "ROWS"})
    return made


def test_values_that_are_given_make_the_component() -> None:
    words = ["--name", "a", "--rows", "4", "--share", "0.5", "--kind", "easy", "--length", "auto"]
    options = parser().parse_args([*words, "--stop", "x", "--stop", "y", "--quietly"])
    expected = Example(name="a", rows=4, share=0.5, kind="easy", length="auto", stop=("x", "y"), quietly=True)
    assert Example(**field_values(options, NAMES)) == expected


def test_what_is_not_given_keeps_the_default_of_the_field() -> None:
    options = parser().parse_args(["--name", "a"])
    assert field_values(options, NAMES) == {"name": "a"}
    assert Example(**field_values(options, NAMES)) == Example(name="a")


def test_a_number_or_a_word() -> None:
    assert parser().parse_args(["--name", "a", "--length", "100"]).length == 100


@pytest.mark.parametrize("words", [[], ["--name", "a", "--rows", "x"], ["--name", "a", "--kind", "odd"]])
def test_what_does_not_fit_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert "usage: x" in capsys.readouterr().err


def test_help_is_that_of_the_field() -> None:
    text = " ".join(parser().format_help().split())
    assert "--rows ROWS how many (3)" in text
    assert "--share X of the rows, 5 %" in text
    assert "--length N|auto tokens (512)" in text
    assert "--kind {easy,hard} which ones (hard)" in text
    assert "--quietly say nothing" in text
    assert option_of("max_length") == "--max-length"


def test_a_field_without_a_description_is_no_option() -> None:
    with pytest.raises(AssertionError, match="description"):
        add_field_options(argparse.ArgumentParser(), Example, ("undocumented",))


class Part(Component):
    rank: int = Field(default=8, description="of the part")
    span: tuple[int, int] | None = Field(default=None, description="from and to")
    alpha: float = 1.0


def test_the_described_fields_are_the_options_in_their_order() -> None:
    assert options_of(Example) == NAMES
    assert options_of(Example, without=("rows", "stop")) == ("name", "share", "kind", "length", "quietly")
    assert options_of(Part) == ("rank", "span")
    assert [is_range(Part.model_fields[name]) for name in options_of(Part)] == [False, True]


def test_options_of_a_part_have_its_prefix() -> None:
    made = argparse.ArgumentParser(prog="x")
    add_field_options(made, Part, options_of(Part), prefix="part_")
    assert "--part-span LOW-HIGH" in made.format_help()
    options = made.parse_args(["--part-rank", "4"])
    assert field_values(options, options_of(Part), "part_") == {"rank": 4}
    assert field_values(options, options_of(Part)) == {}
