"""The budget of the positive control."""

from curate.validation import control_task as task


def test_the_budget_is_where_the_loss_is_halved_and_a_quarter_of_guessing() -> None:
    assert not task._reached([3.0, 1.4], 1.6)  # halved, but no better than guessing
    assert task._reached([3.0, 0.4], 1.6)
    assert not task._reached([0.7, 0.38], 1.6)  # little by guessing's measure, but not halved
    assert task._reached([0.7, 0.35], 1.6)
