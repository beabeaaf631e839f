"""What run.json says of a pipeline and its data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augmenters import Duplicate, Replay
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.difficulty.split import given_scores
from curate.gate import Gate
from curate.pipeline import Pipeline
from curate.run_record import inputs_fingerprint, recipe_text


class Known:
    """Difficulty from the data itself."""

    def score(self, examples, run):
        return np.array(examples.table.column("known"), float)


def _table(n: int = 30) -> pa.Table:
    return pa.table(
        {
            "id": [f"r{i}" for i in range(n)],
            "prompt": [f"p{i}" for i in range(n)],
            "completion": [f"c{i}" for i in range(n)],
            "known": [float(i % 3 == 0) * 5 + i / 100 for i in range(n)],
        }
    )


def _pipeline(**changes: object) -> Pipeline:
    return Pipeline(**{"scorer": Known(), "clusterer": KMeans(), "augmenters": [Duplicate()], **changes})


def test_a_changed_replay_file_is_another_input(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    loaded = read(_table())
    pipeline = _pipeline(augmenters=[Replay(data=str(path), share=0.2)])
    prints = []
    for n in (20, 21):
        pq.write_table(_table(n).select(["prompt", "completion"]), path)
        prints.append(inputs_fingerprint(pipeline, loaded, None))
    assert prints[0] != prints[1]


def test_what_decides_the_result_decides_the_fingerprint(tmp_path: Path) -> None:
    loaded, held_out = read(_table()), tmp_path / "held_out.parquet"
    pq.write_table(_table(3), held_out)
    gated = _pipeline(gate=Gate(evaluation=(str(held_out),)))
    prints = [
        inputs_fingerprint(_pipeline(), loaded, None),
        inputs_fingerprint(_pipeline(seed=1), loaded, None),
        inputs_fingerprint(_pipeline(), read(_table(29)), None),
        inputs_fingerprint(_pipeline(), loaded, given_scores(np.arange(30), loaded.examples.ids)),
        inputs_fingerprint(gated, loaded, None),
    ]
    pq.write_table(_table(4), held_out)
    prints.append(inputs_fingerprint(gated, loaded, None))
    assert len(set(prints)) == len(prints)
    assert inputs_fingerprint(_pipeline(), read(_table()), None) == prints[0]


def test_a_recipe_that_cannot_be_written_down_is_a_comment_that_says_why() -> None:
    class Local(Known):
        pass

    assert recipe_text(_pipeline(scorer=Local())).startswith("# ")
    assert recipe_text(_pipeline()).startswith("scorer:")
