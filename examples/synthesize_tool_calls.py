"""New requests to an assistant with tools, from rows with tool calls, by any OpenAI-compatible server.

Rows need a request, the calls that answer it (JSON, bare or in <tool_call> tags), and a column `tools`. A new request
is written from the calls, and kept where some sampled answers make exactly these calls, compared by value.

python examples/synthesize_tool_calls.py calls.parquet requests --model Qwen/Qwen2.5-7B-Instruct \
    --url http://localhost:8000/v1
"""

import argparse

from augmenters import Synthesize
from curate import Pipeline
from curate.clusterers import Quantile
from curate.generators import VLLMServer
from curate.graders import JSON
from scorers import Length

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="requests with tool calls and tools")
parser.add_argument("out")
parser.add_argument("--model", required=True)
parser.add_argument("--url", required=True)
parser.add_argument("--rows", type=int, default=50, help="rows to start from")
options = parser.parse_args()

pipeline = Pipeline(
    scorer=Length(),  # no proxy: the longest calls; LossTrajectory() finds those that are learned late
    clusterer=Quantile(q=0.5),
    augmenters=[
        Synthesize(
            generator=VLLMServer(model=options.model, url=options.url),
            grader=JSON(),
            rows=options.rows,
            noise_guard=0,
            originals="drop",
        )
    ],
)
curated = pipeline.run(options.data, out=options.out)
for name, count in curated.realized[0].summary.record["outcomes"].items():
    print(f"{count:6,}  {name}")
