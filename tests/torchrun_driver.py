"""Started by torchrun: score a few rows and then new ones with two processes; the first rank prints what came out."""

import json
import sys
from dataclasses import replace

import pyarrow as pa

import curate.trace as trace_module
from curate.distributed import rank, world_size
from curate.measures import MeanLoss
from curate.proxy import Proxy
from curate.readers import read
from curate.rescore import behind
from curate.run import Run

trace_module.SHARD_ROWS = 16
rows = [(f"What is {i} plus {i % 7}?", f"{i} + {i % 7} = {i + i % 7}") for i in range(100)]
table = pa.table({"prompt": [a for a, _ in rows], "completion": [b for _, b in rows]})
examples, new = read(table.slice(0, 60)).examples, read(table.slice(60)).examples
proxy = Proxy(model="scratch", steps=6, checkpoints=2, batch_size=8, max_length=64, precision="float32")
run = Run(proxy, sys.argv[1], device="cpu")
run.trace(examples, [MeanLoss()])
found = replace(run, trained_on=examples).trace(behind(examples, new), [MeanLoss()])
if rank() == 0:
    print(json.dumps({"world": world_size(), "losses": found.of(MeanLoss())[:, -1, 0].tolist()}))
