"""The parts of a pipeline one after the other: python examples/chain_by_hand.py rows.parquet"""

import argparse

import curate
from augmenters import Duplicate, Subset
from curate import Proxy, Run
from curate.clusterers import Quantile
from scorers import FinalLoss, LossTrajectory

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--steps", type=int, default=300, help="optimizer steps of the proxy")
options = parser.parse_args()

data = curate.read(options.data)
run = Run(Proxy(model="scratch", steps=options.steps))

# Both scorers are served by one training of the proxy.
scores = LossTrajectory().score(data, run)
final = FinalLoss().score(data, run)
print("mean loss at each checkpoint:", scores.trajectory.mean(axis=0).round(3))  # (n, K) -> (K,)

split = curate.make_split(scores, Quantile(q=0.2))  # the fifth of the rows that is learned last
hardest = split.ids.to_numpy(zero_copy_only=False)[final.difficulty.argmax()]
print(f"{split.hard.sum()} hard rows; the highest final loss has {hardest}")

plan = curate.fold([Subset(size=0.8), Duplicate(times=2)], split)
dataset = curate.rebuild(data, split, plan, run)
print(dataset)
