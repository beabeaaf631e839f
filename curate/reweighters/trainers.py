"""Reweighters for `transformers.Trainer`, TRL's `SFTTrainer` and classes derived from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from curate.devices import distributed
from curate.errors import InputError
from curate.models.batches import make_batch
from curate.models.embeddings import check_embeddable, embedded_losses
from curate.models.forward import batch_losses, logit_map
from curate.reweighters.trainer_batches import (
    ROW,
    Columns,
    MicroBatch,
    RowCollator,
    batch_weights,
    collated_tokens,
    further_tokens,
    has_positions,
    micro_batch,
    numbered,
)
from curate.reweighters.trainer_checks import check_trainer
from curate.tokenization.tokens import Tokens
from curate.training.checkpoint import load_reweighting, save_reweighting
from curate.training.reweighting import ReweightingState, Training, TrainingRows, mean_weights
from curate.types import FloatArray, IntArray

__all__ = ["TrainerReweighting", "reweight"]

_REPLACED = ("compute_loss", "get_batch_samples", "get_train_dataloader", "train")


def reweight(trainer: Any, reweighter: Any, *, rows: TrainingRows | None = None) -> TrainerReweighting:
    """Weight the training examples of `trainer`, any transformers.Trainer, by `reweighter`.

        reweighting = reweight(trainer, DynamicLoss())
        trainer.train()
        weights, times = reweighting.mean_weights()

    The trainer keeps its data loader, accumulation, autocast, optimizer and checkpoints; the loss of a training step is
    replaced by sum(w n l) / sum(n) over the whole optimizer batch, all micro-batches and ranks: n the completion tokens
    of an example, l its mean loss per token, w its weight. Evaluation keeps the trainer's own loss.

    rows: columns of the rows of `trainer.train_dataset`, for the reweighter. None = those of that dataset, `source`
        being the one of that name; further datasets are tokenized by `trainer.processing_class`: prompts and
        completions end to end as they are, messages by the chat template. Where the rows were tokenized otherwise:
        TrainingRows(columns, tokenize=...).

    One micro-batch per step costs no further pass. With gradient accumulation a forward pass over all micro-batches of
    a step comes first, without gradients and under the same random draws. Metrics that SFTTrainer takes from its own
    loss (entropy, token accuracy) are missing from its training logs. Checkpoints hold the state of the reweighter.

    Raises InputError if the trainer is not supported (see `curate.reweighters.trainer_checks`), or the data does not
    serve the reweighter.
    """
    check_trainer(trainer, _REPLACED)
    reweighting = TrainerReweighting(trainer, reweighter, rows)
    for name in _REPLACED:
        setattr(trainer, name, getattr(reweighting, name))
    trainer.add_callback(_Callback(reweighting))
    return reweighting


@dataclass
class _Step:
    """The current optimizer batch. done: micro-batches processed. tokens: () completion tokens of all ranks.
    weights: (b,) of each micro-batch."""

    parts: list[MicroBatch]
    done: int = 0
    tokens: torch.Tensor | None = None
    weights: list[torch.Tensor] | None = None


class TrainerReweighting:
    """A trainer with weighted steps; made by `reweight`. Its methods replace those of the trainer of the same name.

    reweighting: the reweighter in the current run.
    """

    def __init__(self, trainer: Any, reweighter: Any, rows: TrainingRows | None) -> None:
        self.trainer, self.reweighter, self.rows = trainer, reweighter, rows
        self.stock: dict[str, Callable[..., Any]] = {name: getattr(trainer, name) for name in _REPLACED}
        self.resumed: str | bool | None = None
        self.step: _Step | None = None
        self.n = len(trainer.train_dataset) if has_positions(trainer.train_dataset) else None
        self.budget = 1
        self.begin()

    def mean_weights(self) -> tuple[FloatArray, IntArray]:
        """(n,) mean weight of each row of `trainer.train_dataset` over the steps that drew it (NaN where none did),
        and (n,) how many did. InputError if rows have no positions.
        """
        if self.n is None:
            raise InputError("rows of an IterableDataset have no positions to keep weights by; use a sized dataset")
        return mean_weights(self.reweighting.state())

    # -- the run ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start with a fresh reweighter, before a run. Raises InputError if it cannot be used."""
        self.model = _inner(self.trainer.model)
        with _plain_forward(self.model):
            logit_map(self.model)  # probed now, before any rank is in the middle of a step
        if self.n is None and getattr(self.reweighter, "begin", None) is not None:
            raise InputError(
                f"{type(self.reweighter).__qualname__} has to know the rows, and an IterableDataset has none to look "
                "up; give the trainer a dataset with a length, or choose a reweighter that looks at losses alone"
            )
        self.reweighting = ReweightingState(self.reweighter, self._training, self.n or 0)
        if self.reweighting.embeds:
            check_embeddable(self.model)
        self.fresh = True

    def start(self) -> None:
        """At the start of `trainer.train`, on all ranks: start over in a second run, or load a resumed run's state."""
        if not self.fresh or _inner(self.trainer.model) is not self.model:
            self.begin()
        self.fresh, self.step = False, None
        if self.resumed:
            from transformers.trainer_utils import get_last_checkpoint

            folder = get_last_checkpoint(self.trainer.args.output_dir) if self.resumed is True else self.resumed
            state = load_reweighting(Path(str(folder)), self.n or 0, self.reweighter)
            assert state is not None
            self.reweighting.load_state(state)

    def _training(self) -> Training:
        args = self.trainer.args
        fields = None
        if args.remove_unused_columns:
            self.trainer._set_signature_columns_if_needed()
            fields = self.trainer._signature_columns
        tokens = collated_tokens(self.trainer.train_dataset, self.trainer.data_collator, fields)
        return Training(
            self.model,
            tokens,
            self._rows(tokens),
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            args.seed,
            args.device,
            bool(args.bf16),
            make_batch,
            lambda: self.budget,
            lambda: int(self.trainer.state.max_steps),
        )

    def _rows(self, tokens: Tokens) -> TrainingRows:
        """The caller's rows, with a tokenizer for further datasets added if they have none."""
        columns = Columns(self.trainer.train_dataset)
        rows = self.rows or TrainingRows(columns, "source" if "source" in columns else None)
        if rows.tokenize is not None:
            return rows
        longest = getattr(self.trainer.args, "max_length", None) or int(tokens.lengths.max(initial=1))
        return replace(rows, tokenize=partial(further_tokens, self.trainer.processing_class, longest))

    # -- in place of the trainer's methods ----------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own; remembers the checkpoint it resumes from, which callbacks do not get."""
        self.resumed = resume_from_checkpoint
        return self.stock["train"](resume_from_checkpoint, *args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """The trainer's own, over rows with their positions."""
        trainer = self.trainer
        if self.n is None:
            return self.stock["get_train_dataloader"]()
        if len(trainer.train_dataset) != self.n:
            raise InputError(
                f"the training dataset had {self.n} rows, now it has {len(trainer.train_dataset)}; change it before "
                "calling reweight"
            )
        trainer._set_signature_columns_if_needed()
        names = ("train_dataset", "data_collator", "_signature_columns")
        stock = {name: getattr(trainer, name) for name in names}
        trainer.train_dataset = numbered(trainer.train_dataset)
        trainer.data_collator = RowCollator(trainer.data_collator)
        trainer._signature_columns = [*trainer._signature_columns, ROW]
        try:
            return self.stock["get_train_dataloader"]()
        finally:
            for name, value in stock.items():
                setattr(trainer, name, value)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own: all micro-batches of an optimizer step, without the positions of their rows."""
        samples = self.stock["get_batch_samples"](*args, **kwargs)
        batches, device = samples[0], self.trainer.args.device
        self.step = _Step([micro_batch(batch, device, batch.pop(ROW, None)) for batch in batches])
        return samples

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        """This rank's part of the weighted loss in training, scaled to cancel the trainer's own scaling."""
        step = self.step
        if step is None or not self.trainer.model.training:
            stock = self.stock["compute_loss"]
            return stock(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch, **kwargs)
        if step.done == 0:
            self._open(step)
        number, step.done = step.done, step.done + 1
        sums, embeddings = self._through(model, step.parts[number])
        if step.weights is None:
            self._set_weights(step, [(sums.detach(), embeddings)])
        assert step.weights is not None
        assert step.tokens is not None
        loss = (sums * step.weights[number]).sum() / step.tokens
        loss = loss * distributed.world_size()  # gradients are averaged over ranks
        if not self._trainer_scaled(num_items_in_batch):
            loss = loss * self.trainer.current_gradient_accumulation_steps
        return (loss, {"loss": loss}) if return_outputs else loss

    def _trainer_scaled(self, num_items_in_batch: Any) -> bool:
        """Whether the trainer leaves the loss unscaled instead of dividing it by the number of micro-batches."""
        scaled = getattr(self.trainer, "loss_is_scaled_for_ga", None)
        if scaled is None:
            scaled = self.trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
        return bool(scaled)

    # -- one optimizer step -------------------------------------------------------------------------------------------

    def _open(self, step: _Step) -> None:
        """Before the first micro-batch, on all ranks: refresh the reweighter, and weight a batch of several parts."""
        if bool(torch.stack([part.broken for part in step.parts]).any()):
            raise InputError("an attention mask has a hole inside a row; let the collator pad rows at one end")
        self.budget = max(self.budget, *(part.batch.input_ids.numel() for part in step.parts))
        # Autocast's copies of weights made without a gradient must not be used in the training pass, and vice versa.
        torch.clear_autocast_cache()
        self.reweighting.refresh(self.trainer.state.global_step)
        if len(step.parts) > 1:
            devices = [self.trainer.args.device] if self.trainer.args.device.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(devices):
                self._set_weights(step, [self._losses(part) for part in step.parts])
        torch.clear_autocast_cache()

    def _losses(self, part: MicroBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(b,) summed losses, and (b, d) embeddings if wanted."""
        if self.reweighting.embeds:
            return embedded_losses(self.model, part.batch, part.lengths)
        return batch_losses(self.model, part.batch), None

    def _through(self, wrapped: Any, part: MicroBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`_losses` inside the wrapped model's forward pass, so that a wrapper sees it and reduces gradients."""
        inner = self.trainer.accelerator.unwrap_model(wrapped)
        stack = contextlib.ExitStack()

        def forward(_: torch.Tensor) -> tuple[torch.Tensor, ...]:
            stack.close()  # restores the model's own forward, which the losses may need
            sums, embeddings = self._losses(part)
            return (sums,) if embeddings is None else (sums, embeddings)

        with stack:
            stack.enter_context(_plain_forward(inner))
            inner.forward = forward
            outputs = wrapped(part.batch.input_ids)
        return outputs[0], outputs[1] if len(outputs) > 1 else None

    def _set_weights(self, step: _Step, outputs: list[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        number, args = self.trainer.state.global_step, self.trainer.args
        step.weights, step.tokens = batch_weights(self.reweighting, step.parts, outputs, number, args.learning_rate)


class _Callback(TrainerCallback):
    """Starts the reweighter with a run, and saves its state with each checkpoint."""

    def __init__(self, reweighting: TrainerReweighting) -> None:
        self.reweighting = reweighting

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reweighting.start()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.should_save:
            save_reweighting(self.reweighting.reweighting, folder)


def _inner(model: Any) -> Any:
    """The causal language model itself, with peft's adapters."""
    return getattr(model, "get_base_model", lambda: model)()


@contextlib.contextmanager
def _plain_forward(module: Any) -> Iterator[None]:
    """The module's original `forward` inside the context, without replacements (autocast, a fused head)."""
    replaced = module.__dict__.pop("forward", None)
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)
        if replaced is not None:
            module.forward = replaced
