"""What a card says of training on weights and on rows that have an order."""

from curate.report.card_usage import USE_OF_WEIGHTS, USE_OF_WEIGHTS_IN_FRONT, use_of_parts


def test_rows_without_an_order_need_no_words() -> None:
    assert use_of_parts(None) == ""


def test_rows_with_an_order_say_where_the_copies_are_and_that_nobody_may_shuffle() -> None:
    said = " ".join(use_of_parts({"first": 1_500, "second": 1_000}).split())
    assert "The first 1,500 rows are half of the rows, drawn, and every copy; the last 1,000" in said
    assert "A trainer that shuffles undoes this" in said


def test_weights_for_the_first_half_are_not_for_a_sampler_that_knows_no_steps() -> None:
    assert "WeightedRandomSampler" in USE_OF_WEIGHTS
    assert "WeightedRandomSampler" not in USE_OF_WEIGHTS_IN_FRONT
    assert "until: 0.5" in USE_OF_WEIGHTS_IN_FRONT


def test_epochs_are_named_by_their_splits() -> None:
    said = use_of_parts({"epoch1": 10, "epoch2": 9})
    assert "rows of 2 epochs" in said
    assert "`epoch1` to `epoch2`" in said
