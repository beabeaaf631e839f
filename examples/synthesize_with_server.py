"""New problems from hard rows, by any OpenAI-compatible server.

vllm serve Qwen/Qwen2.5-7B-Instruct --port 8000
python examples/synthesize_with_server.py rows.parquet problems --model Qwen/Qwen2.5-7B-Instruct \
    --url http://localhost:8000/v1
"""

import argparse

from augmenters import Synthesize
from curate import Pipeline, Proxy
from curate.clusterers import Quantile
from curate.generators import VLLMServer
from scorers import LossTrajectory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="problems with worked solutions and final answers")
parser.add_argument("out")
parser.add_argument("--model", required=True)
parser.add_argument("--url", required=True)
parser.add_argument("--rows", type=int, default=50, help="hard rows to start from")
parser.add_argument("--budget", type=int, default=200_000, help="most generated tokens")
parser.add_argument("--steps", type=int, default=300, help="optimizer steps of the proxy")
options = parser.parse_args()

pipeline = Pipeline(
    proxy=Proxy(model="scratch", steps=options.steps),
    scorer=LossTrajectory(),
    clusterer=Quantile(q=0.2),
    augmenters=[
        Synthesize(
            generator=VLLMServer(model=options.model, url=options.url),
            rows=options.rows,
            budget=options.budget,
            originals="drop",
        )
    ],
)
curated = pipeline.run(options.data, out=options.out)
for name, count in curated.realized[0].summary.record["outcomes"].items():
    print(f"{count:>6,} {name}")
