"""New programming exercises from rows with tests, by any OpenAI-compatible server; every program runs in a sandbox.

Rows need a task, a program that solves it, and its tests in a column `tests` (Python with assertions). A new exercise
is written from the program, and the tests of the row say whether a sampled program solves it.

python examples/synthesize_code.py programs.parquet exercises --model Qwen/Qwen2.5-Coder-7B-Instruct \
    --url http://localhost:8000/v1
"""

import argparse

from augmenters import Synthesize
from curate import Pipeline
from curate.clusterers import Quantile
from curate.generators import VLLMServer
from curate.graders import Tests
from scorers import Length

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="tasks with programs and a column of tests")
parser.add_argument("out")
parser.add_argument("--model", required=True)
parser.add_argument("--url", required=True)
parser.add_argument("--rows", type=int, default=50, help="rows to start from")
options = parser.parse_args()

pipeline = Pipeline(
    scorer=Length(),  # no proxy: the longest programs; LossTrajectory() finds those that are learned late
    clusterer=Quantile(q=0.5),
    augmenters=[
        Synthesize(
            generator=VLLMServer(model=options.model, url=options.url),
            grader=Tests(seconds=5),
            run_programs=True,
            rows=options.rows,
            noise_guard=0,
            originals="drop",
        )
    ],
)
curated = pipeline.run(options.data, out=options.out)
for name, count in curated.realized[0].summary.record["outcomes"].items():
    print(f"{count:6,}  {name}")
