"""Card sections on training with weights and with ordered rows."""

from __future__ import annotations

from collections.abc import Mapping

USE_OF_WEIGHTS = """
## How to train with `weight`

**A trainer that does not read the column counts all rows alike, and what was found out is lost.**

- `curate finetune path/to/this/folder --reweighter GivenWeights --model ... --out ...`
- `transformers.Trainer` and TRL: `curate.reweighters.trainers.reweight(trainer, GivenWeights())`.
- A training loop of your own: per optimizer batch, the sum of weight times summed token loss of a row, divided by the
  number of completion tokens, and by the mean weight of all rows (over completion tokens) so that the size of updates
  stays.
- Any other trainer: draw rows in proportion to their weights, with
  `torch.utils.data.WeightedRandomSampler(rows["weight"], num_samples=round(sum(rows["weight"])))`.
"""

USE_OF_WEIGHTS_IN_FRONT = """
## How to train with `weight`

The weights are for the **first half of the optimizer steps**; afterwards every row counts once. **A trainer that does
not read the column counts all rows alike, and what was found out is lost.**

- `curate finetune path/to/this/folder --reweighter '{use: GivenWeights, until: 0.5}' --model ... --out ...`
- `transformers.Trainer` and TRL: `curate.reweighters.trainers.reweight(trainer, GivenWeights(until=0.5))`.
- A training loop of your own: per optimizer batch, the sum of weight times summed token loss of a row, divided by the
  number of completion tokens, and by the mean weight of all rows (over completion tokens) so that the size of updates
  stays; from the middle of the steps on, without weights.
"""

USE_OF_ROW_WEIGHTS = """
## How to train with `weight`

**A trainer that does not read the column counts all rows alike, and what was found out is lost.** The weights are of
rows, not of tokens: the runs that gave them averaged the mean losses of rows, long or short.

- `curate finetune path/to/this/folder --reweighter GivenWeights --set reweighter.averages=rows --model ... --out ...`
- A training loop of your own: per optimizer batch, the mean over its rows of weight times mean token loss, divided by
  the mean weight of all rows so that the size of updates stays.
"""


_USE_OF_EPOCHS = """
## How to train: one file per epoch

These are the rows of {epochs} epochs, redrawn for each, one after the other. **A trainer that shuffles mixes them.**

- `transformers.Trainer` and TRL: `train_sampling_strategy="sequential"`, `num_train_epochs=1`.
- A `DataLoader` of your own: `shuffle=False`, one pass.
- One epoch after the other, under one learning-rate schedule: `load_dataset("path/to/this/folder", "parts")` has the
  splits `{first}` to `{last}`, each shuffled.
- `curate finetune path/to/this/folder --steps "1 epoch"` shows every row as often, in another order.
"""


def use_of_parts(parts: Mapping[str, int] | None) -> str:
    """Section on training with ordered rows; empty if their order does not matter. parts: see `Curated.parts`."""
    if parts is None:
        return ""
    if "first" not in parts:
        return _USE_OF_EPOCHS.format(epochs=len(parts), last=list(parts)[-1], first=next(iter(parts)))
    first, second = parts["first"], parts["second"]
    return f"""
## How to train: in this order

The first {first:,} rows are half of the rows, drawn, and every copy; the last {second:,} are the other half, without
copies. Each part is shuffled. **A trainer that shuffles undoes this**, and `curate finetune` does.

- `transformers.Trainer` and TRL: `train_sampling_strategy="sequential"`, `num_train_epochs=1`.
- A `DataLoader` of your own: `shuffle=False`, one pass.
- The two parts one after the other, under one learning-rate schedule:
  `load_dataset("path/to/this/folder", "parts")` has the splits `first` and `second`.
- Several epochs: curate with `--set copies=weights` instead; the card of that result says how to use it.
"""
