"""The reference fine-tuning runner: one command, one folder per run, by the training loop that proxies use too."""

from curate.finetuning.lora import LoRA
from curate.finetuning.run_folder import read_run
from curate.finetuning.runner import finetune
from curate.finetuning.settings import Finetuning, finetuning_from

__all__ = ["Finetuning", "LoRA", "finetune", "finetuning_from", "read_run"]
