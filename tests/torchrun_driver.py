"""Started by torchrun: score a few rows with two processes and print what came out, on the first rank."""

import json
import sys

import pyarrow as pa

import curate.trace as trace_module
from curate.distributed import rank, world_size
from curate.measures import MeanLoss
from curate.proxy import Proxy
from curate.readers import read
from curate.run import Run

trace_module.SHARD_ROWS = 16
rows = [(f"What is {i} plus {i % 7}?", f"{i} + {i % 7} = {i + i % 7}") for i in range(60)]
examples = read(pa.table({"prompt": [a for a, _ in rows], "completion": [b for _, b in rows]})).examples
proxy = Proxy(model="scratch", steps=6, checkpoints=2, batch_size=8, max_length=64, precision="float32")
run = Run(proxy, sys.argv[1], device="cpu")
found = run.trace(examples, [MeanLoss()])
if rank() == 0:
    print(json.dumps({"world": world_size(), "losses": found.of(MeanLoss())[:, -1, 0].tolist()}))
