"""A scorer of your own beside a built-in one: python examples/own_scorer.py rows.parquet"""

import argparse

from augmenters import Duplicate
from curate import Pipeline, Proxy
from curate.checks import check_scorer
from curate.clusterers import Quantile
from scorers import LossTrajectory, RankAverage


class Digits:
    """How many digits the completion has."""

    def score(self, examples, run):
        """(n,) numbers; higher = harder."""
        return [sum(map(str.isdigit, text)) for text in examples.texts("completion", 0, len(examples))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of the proxy")
    options = parser.parse_args()

    check_scorer(Digits())  # the contract that the built-in scorers pass
    pipeline = Pipeline(
        proxy=Proxy(model="scratch", steps=options.steps),
        scorer=RankAverage(scorers=(LossTrajectory(), Digits())),
        clusterer=Quantile(q=0.25),
        augmenters=[Duplicate(times=1)],
    )
    curated = pipeline.run(options.data)
    print(curated.dataset)
