"""Benchmark time and memory of the clusterers, and k-means against scikit-learn."""

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

_DETAILS = """\
    python -m benchmarks.clustering [--kmeans-rows N] [--hdbscan-rows N] [--out FILE]
    python -m benchmarks.clustering --beside-sklearn [--rows 1000000] [--clusters 100] [--repeats 3] [--out FILE]

The second is k-means with many clusters, as S2L has it, beside that of scikit-learn, in turn in one process, so that
other load on the machine falls on both. Ours compares its starts on a sample; scikit-learn gets one start on all rows.
What was reached is the inertia: the mean squared distance of a row from the mean of its cluster.

Prints one JSON object (and writes it to FILE). Each clusterer runs in a process of its own, so that its peak
memory is its own; `data_rss_mib` is the peak before clustering, with the features already made.
"""

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
    label_values, counts = np.unique(labels, return_counts=True)
    return {
        "clusterer": repr(clusterer),
        "rows": n,
        "features": FEATURES,
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "data_rss_mib": before,
        "peak_rss_mib": peak_mib(),
        "shares": {
            str(label): round(count / n, 4) for label, count in zip(label_values.tolist(), counts.tolist(), strict=True)
        },
    }


def beside_sklearn(rows: int, clusters: int, repeats: int, seed: int) -> dict[str, Any]:
    """Seconds and inertia (per row) of k-means here and of scikit-learn's Lloyd, alternating."""
    from sklearn.cluster import KMeans as ScikitKMeans

    from curate.clusterers import KMeans

    X = trajectories(rows, seed)
    ours = KMeans(n_clusters=clusters, random_state=seed)
    theirs = ScikitKMeans(clusters, n_init=1, random_state=seed, max_iter=ours.max_iter, algorithm="lloyd")
    runs: list[dict[str, Any]] = []
    for _ in range(repeats):
        for name, clusterer in (("curate", ours), ("scikit-learn", theirs)):
            wall, cpu = time.perf_counter(), time.process_time()
            labels = clusterer.fit_predict(X)
            times = {
                "seconds": round(time.perf_counter() - wall, 2),
                "cpu_seconds": round(time.process_time() - cpu, 2),
            }
            runs.append({"clusterer": name, **times, "inertia": round(inertia(X, labels), 6)})
            print(json.dumps(runs[-1]), flush=True)
    medians = {
        name: {
            key: sorted(run[key] for run in runs if run["clusterer"] == name)[repeats // 2]
            for key in ("seconds", "cpu_seconds", "inertia")
        }
        for name in ("curate", "scikit-learn")
    }
    ratio = {key: round(medians["scikit-learn"][key] / medians["curate"][key], 3) for key in medians["curate"]}
    about = {"rows": rows, "features": FEATURES, "clusters": clusters, "iterations": int(theirs.n_iter_)}
    return {**about, "runs": runs, "medians": medians, "scikit_learn_over_curate": ratio}


def inertia(X: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> float:
    """Mean squared distance of the rows from the mean of their cluster."""
    sizes = np.maximum(np.bincount(labels), 1)
    total = 0.0
    for column in X.T.astype(np.float64):
        means = np.bincount(labels, column) / sizes
        total += float(((column - means[labels]) ** 2).sum())
    return total / len(X)


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kmeans-rows", type=int, default=10_000_000)
    parser.add_argument("--hdbscan-rows", type=int, default=1_000_000)
    parser.add_argument("--beside-sklearn", action="store_true", help="k-means with many clusters, in one run")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
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
    if options.beside_sklearn:
        record |= beside_sklearn(options.rows, options.clusters, options.repeats, options.seed)
    else:
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
