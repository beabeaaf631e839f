"""Curate a JSON Lines file: python examples/curate_jsonl.py rows.jsonl curated"""

import argparse

from augmenters import Duplicate
from curate import Pipeline, Proxy
from curate.clusterers import KMeans
from scorers import LossTrajectory

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("out")
parser.add_argument("--proxy", default="scratch", help="hub id, folder, GGUF file, or scratch")
parser.add_argument("--steps", default="1/3 epoch", help='optimizer steps of the proxy, or "1/3 epoch"')
options = parser.parse_args()

steps = int(options.steps) if options.steps.isdigit() else options.steps
pipeline = Pipeline(
    proxy=Proxy(model=options.proxy, steps=steps),
    scorer=LossTrajectory(),
    clusterer=KMeans(n_clusters=2),
    augmenters=[Duplicate(times=1)],  # every hard row twice
)
curated = pipeline.run(options.data, out=options.out)

hard = int(curated.split.hard.sum())
print(f"{len(curated.split):,} rows in, {len(curated):,} out, {hard:,} of them hard")
for warning in curated.warnings:
    print(f"warning: {warning.message} {warning.remedy}")
