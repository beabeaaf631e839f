"""Reference fine-tuning: one command, one folder per run, with the training loop that proxies use too."""

from curate.finetuning.config import Finetuning, finetuning_from
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA
from curate.finetuning.run_folder import read_run

__all__ = ["Finetuning", "LoRA", "finetune", "finetuning_from", "read_run"]
