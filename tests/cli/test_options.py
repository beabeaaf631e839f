"""Mistyped commands and options are refused with the nearest one."""

import pytest

from tests.fixtures.commands import Call


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["rnu", "d"], "did you mean 'run'?"),
        (["frobnicate"], "commands are demo, run, plan"),
        (["run", "d", "--outt", "x"], "did you mean --out?"),
        (["run", "d", "--out", "x", "--recipee=quick"], "did you mean --recipe?"),
        (["run", "d", "--rec", "quick", "--out", "x"], "--rec"),
        (["run", "d", "--out", "x", "--zzz"], "curate run --help"),
        (["--json", "run", "d"], "--json"),
        (["run", "d"], "--out"),
        (["run", "d", "e", "--out", "x"], "e"),
        (["run", "d", "--out", "x", "--limit", "ten"], "--limit"),
        (["run", "d", "--out", "x", "--on-bad-row", "fix"], "--on-bad-row"),
    ],
)
def test_mistyped_arguments(given: list[str], expected: str, call: Call) -> None:
    refused = call(*given)
    assert refused.status == 2
    assert expected in refused.error
    assert len(refused.err.splitlines()) == 1
    if "--json" not in given:
        assert refused.out == ""


@pytest.mark.parametrize(
    "given",
    [
        ["finetune", "d", "--out", "x", "--log", ""],
        ["finetune", "d", "--out", "x", "--log= "],
        ["finetune", "d", "--out", "x", "--log", ","],
        ["run", "d", "--out", ""],
        ["run", "", "--out", "x"],
        ["run", "d", "--out", "x", "--recipe="],
        ["run", "d", "--out", "x", "--delimiter", ""],
    ],
)
def test_an_argument_without_text_is_refused(given: list[str], call: Call) -> None:
    """As a variable of the shell that is not set leaves it."""
    refused = call(*given)
    assert refused.status == 2
    assert "the text is empty" in refused.error
    assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_what_would_be_lost_with_the_process_is_refused(option: str, call: Call) -> None:
    given = {"--out": "x", option: "memory://x"}
    refused = call("run", "d", *(word for pair in given.items() for word in pair))
    assert refused.status == 2
    assert f"{option}: what is written to memory:// is lost" in refused.error
