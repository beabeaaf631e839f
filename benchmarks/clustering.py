"""Time and memory of the clusterers at full scale: 10,000,000 x 6 for k-means, 1,000,000 x 6 for HDBSCAN.

    python -m benchmarks.clustering [--kmeans-rows N] [--hdbscan-rows N] [--out FILE]

Prints one JSON object (and writes it to FILE). Each clusterer runs in a process of its own, so that its peak
memory is its own; `data_rss_mib` is the peak before clustering, with the features already made.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FEATURES = 6


def trajectories(n: int, seed: int) -> npt.NDArray[np.float32]:
    """(n, FEATURES) loss trajectories: a fifth starts higher and falls later, with noise per row and per checkpoint."""
    rng = np.random.default_rng(seed)
    late = rng.random(n) < 0.2
    own = np.exp(0.15 * rng.standard_normal(n, np.float32))
    losses = np.empty((n, FEATURES), np.float32)
    for k in range(FEATURES):
        level = np.where(late, np.float32(1.6 - 0.1 * k), np.float32(0.7 - 0.08 * k))
        losses[:, k] = level * own * np.exp(0.1 * rng.standard_normal(n, np.float32))
    return losses


def measure(name: str, n: int, seed: int) -> dict[str, Any]:
    """One clusterer on n rows."""
    from curate.clusterers import HDBSCAN, KMeans

    clusterer = {"KMeans": KMeans, "HDBSCAN": HDBSCAN}[name](random_state=seed)
    X = trajectories(n, seed)
    before = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    labels = clusterer.fit_predict(X)
    found, counts = np.unique(labels, return_counts=True)
    return {
        "clusterer": repr(clusterer),
        "rows": n,
        "features": FEATURES,
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "data_rss_mib": before,
        "peak_rss_mib": peak_mib(),
        "shares": {
            str(label): round(count / n, 4) for label, count in zip(found.tolist(), counts.tolist(), strict=True)
        },
    }


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kmeans-rows", type=int, default=10_000_000)
    parser.add_argument("--hdbscan-rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn", "hdbscan")},
        "seed": options.seed,
        "runs": [],
    }
    context = multiprocessing.get_context("spawn")
    for name, rows in (("KMeans", options.kmeans_rows), ("HDBSCAN", options.hdbscan_rows)):
        with context.Pool(1) as pool:
            record["runs"].append(pool.apply(measure, (name, rows, options.seed)))
    text = json.dumps(record, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
