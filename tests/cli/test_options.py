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
