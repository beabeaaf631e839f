"""Examples won and lost."""

from __future__ import annotations

from curate.comparison.compare import Comparison


def test_examples_won_and_lost_add_up_and_show_a_telling_completion(compared: Comparison) -> None:
    hard = next(each for each in compared.outcomes if each.arm == "hard")
    assert hard.won + hard.lost + hard.drawn == 150
    assert hard.won > hard.lost
    for example in hard.gains:
        assert example.arm_score > 0.5 >= example.baseline_score
        number = int(example.identity.removeprefix("q-"))
        assert example.arm_completion == f"{number} + {number + 1} = {2 * number + 1}"
        assert example.baseline_completion == f"{number} + {number + 1} = {2 * number + 2}"
