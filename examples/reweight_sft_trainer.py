"""Online reweighting in TRL's SFTTrainer: python examples/reweight_sft_trainer.py curated Qwen/Qwen3-0.6B out"""

import argparse

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from curate.reweighters import DynamicLoss
from curate.reweighters.trainers import reweight

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", help="folder of `curate run`, or anything that load_dataset takes")
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=-1, help="optimizer steps (three epochs)")
options = parser.parse_args()

data = load_dataset(options.data)["train"]
columns = {"question": "prompt", "answer": "completion"}
data = data.rename_columns({old: new for old, new in columns.items() if old in data.column_names})
on_cpu = not torch.cuda.is_available()
arguments = SFTConfig(
    options.out,
    max_steps=options.steps,
    per_device_train_batch_size=8,
    report_to="none",
    use_cpu=on_cpu,
    bf16=not on_cpu,
)
trainer = SFTTrainer(options.model, args=arguments, train_dataset=data.select_columns(["prompt", "completion"]))
reweighting = reweight(trainer, DynamicLoss())
trainer.train()
weights, times = reweighting.mean_weights()  # (n,) mean weight of every row, (n,) steps that drew it
drawn = times > 0
print(f"{drawn.sum():,} rows drawn; weights {weights[drawn].min():.3f} to {weights[drawn].max():.3f}")
