"""Which arms a validation has, and designs that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from augmenters import Subset
from curate.clusterers import Quantile
from curate.errors import InputError
from curate.evaluation.config import EvaluationSet
from curate.finetuning.config import Finetuning
from curate.optimizers import SAM
from curate.pipeline import Pipeline
from curate.validation.config import ARMS, CONTROLS, Addition
from tests.fixtures.validation import (
    Known,
    pipeline,
    settings,
)

SAME_NUMBER = ("hard", *CONTROLS)


def test_sam_is_no_arm_where_all_are_trained_with_it() -> None:
    tuning = Finetuning(model="scratch", optimizer=SAM())
    assert settings(finetuning=tuning).named_arms() == ("original", *SAME_NUMBER)
    with pytest.raises(InputError, match=r"arm sam: .*two gradients a step already"):
        settings(finetuning=tuning, arms=("hard", "sam"))


def test_the_recipe_decides_which_arms_there_are() -> None:
    assert settings().named_arms() == ("original", *SAME_NUMBER, "sam")
    assert settings(pipeline=pipeline(Subset(size=0.5))).named_arms() == ("original", "sam")
    assert settings(arms=("random", "hard")).named_arms() == ("original", "hard", "random")
    own = Addition(name="mine", data="x.parquet")
    assert settings(arms=("hard",), additions=(own,)).named_arms() == ("original", "hard", "mine")
    assert set(settings().named_arms()) <= set(ARMS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ("hrad",)}, "did you mean 'hard'"),
        ({"arms": ("synthesis",)}, "--generator"),
        ({"arms": ("easy",), "pipeline": Pipeline(scorer=Known(), clusterer=Quantile())}, "use one with Duplicate"),
        ({"pipeline": pipeline(Subset(size=0.5)), "arms": ("original",)}, "no arm to compare with original"),
        ({"seeds": (1, 1)}, "given twice"),
        ({"budgets": ("epochs",)}, "equal steps in any case"),
        (
            {"sets": (EvaluationSet(data="a/x.parquet", name="x"), EvaluationSet(data="b/x.parquet", name="x"))},
            "one name",
        ),
        ({"sets": (EvaluationSet(data="x.parquet", name="pooled"),)}, "the name of all sets together"),
        ({"additions": (Addition(name="a", data="x"), Addition(name="a", data="y"))}, "two arms have one name"),
    ],
)
def test_a_design_that_cannot_be_is_refused_with_the_remedy(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InputError), match=message):
        settings(**fields)


@pytest.mark.parametrize("fields", [{"name": "hard", "data": "x"}, {"name": "a"}, {"name": "a/b", "data": "x"}])
def test_an_arm_of_the_users_own_has_a_name_and_one_source(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"arm|name"):
        Addition(**fields)
