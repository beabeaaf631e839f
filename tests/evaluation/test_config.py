"""Settings of evaluations, and evaluation sets as the command line names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.checks import check_component
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet, parse_set


def test_components_keep_the_contract() -> None:
    check_component(Evaluation())
    check_component(EvaluationSet(data="x.parquet"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generate": False, "nll": False}, "nothing to evaluate"),
        ({"samples": 2}, "temperature 0 are all the same"),
        ({"shots": 2}, "2 shots need examples"),
        ({"shots_from": EvaluationSet(data="x")}, "no number of shots"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**given)


def test_sets_are_named_on_the_command_line_by_path_name_or_mapping(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.parquet"
    odd.touch()
    assert parse_set("x.parquet", "--data") == EvaluationSet(data="x.parquet")
    assert parse_set("gsm=x/y.parquet", "--data") == EvaluationSet(data="x/y.parquet", name="gsm")
    assert parse_set(str(odd), "--data").data == str(odd)
    described = parse_set("m={data: x.parquet, where: 'split=test,level!=5', limit: 3}", "--data")
    assert described == EvaluationSet(data="x.parquet", name="m", where="split=test,level!=5", limit=3)
    assert EvaluationSet(data=str(odd)).title == "a-b"
    for text, message in (
        ("{data: x, wher: y}", "no key 'wher'; did you mean 'where'"),
        ("{data: x, name: ../up}", "cannot name a folder"),
        ("{where: x}", "it names no data"),
    ):
        with pytest.raises(InputError, match=message):
            parse_set(text, "--data")
