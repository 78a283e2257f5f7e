"""Exact nearest neighbours of real patches: against the machine's matrix product, faiss, torch.cdist, scikit-learn."""

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from common import report, tile_features

from exdd_ray.banks.indexes import IndexKind, build_index
from exdd_ray.banks.options import random_order
from exdd_ray.banks.search import search

IMAGES, QUERIES, BANK = 200, 16 * 784, 15_680
REPEATS = 11


def matrix_product(queries: np.ndarray, bank: np.ndarray) -> Callable[[], object]:
    """The bare product of the same shape, all threads: the machine's peak."""
    q, b = torch.from_numpy(queries), torch.from_numpy(bank).T.contiguous()
    out = torch.empty(2048, b.shape[1])
    return lambda: [torch.mm(part, b, out=out[: len(part)]) for part in q.split(2048)]


def faiss_flat(queries: np.ndarray, bank: np.ndarray) -> Callable[[], np.ndarray]:
    """IndexFlatL2, built once."""
    import faiss

    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return lambda: index.search(queries, 1)[1][:, 0]


def approximate(kind: IndexKind, queries: np.ndarray, bank: np.ndarray) -> Callable[[], np.ndarray]:
    """An approximate index with this project's defaults, built beforehand."""
    index = build_index(kind, bank)
    return lambda: index.search(queries, 1)[1][:, 0]


def cdist(queries: np.ndarray, bank: np.ndarray) -> Callable[[], np.ndarray]:
    """torch.cdist and a minimum, in blocks."""
    q, b = torch.from_numpy(queries), torch.from_numpy(bank)
    return lambda: torch.cat([torch.cdist(part, b).min(dim=1).indices for part in q.split(2048)]).numpy()


def scikit(queries: np.ndarray, bank: np.ndarray) -> Callable[[], np.ndarray]:
    """scikit-learn's fused reduction."""
    from sklearn.metrics import pairwise_distances_argmin

    return lambda: pairwise_distances_argmin(queries, bank)


def exact(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """The true nearest, in double precision."""
    q, b = torch.from_numpy(queries).double(), torch.from_numpy(bank).double()
    return torch.cat([torch.cdist(part, b).min(dim=1).indices for part in q.split(1024)]).numpy()


def measure(ways: dict[str, Callable[[], object]]) -> tuple[dict[str, list[float]], dict[str, object]]:
    """Seconds of each way, all in turn, several times; and what each answered."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers = {name: way() for name, way in ways.items()}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return seconds, answers


def main() -> int:
    """The exact searches of torch first, then those with threads of their own."""
    _, vectors = tile_features(IMAGES)
    bank = vectors[: 160 * 784][random_order(160 * 784, BANK, seed=0).indices]
    queries = vectors[-QUERIES:]
    ways: dict[str, Callable[[], object]] = {
        "matrix product": matrix_product(queries, bank),
        "search": lambda: search(queries, bank, 1).indices[0, :, 0],
        "torch.cdist": cdist(queries, bank),
    }
    # these leave threads of their own behind, which take time from whoever comes next
    others: dict[str, Callable[[], object]] = {
        "faiss IndexFlatL2": faiss_flat(queries, bank),
        "faiss HNSW": approximate("hnsw", queries, bank),
        "faiss IVF": approximate("ivf", queries, bank),
        "scikit-learn": scikit(queries, bank),
    }
    seconds, answers = measure(ways)
    their_seconds, their_answers = measure(others)
    seconds, answers, ways = seconds | their_seconds, answers | their_answers, ways | others
    truth = exact(queries[:4096], bank)
    recall = {n: float(np.mean(np.asarray(answers[n])[:4096] == truth)) for n in ways if n != "matrix product"}
    work = 2 * QUERIES * BANK * bank.shape[1] / 1e9
    peak = min(seconds["matrix product"])
    rows = [
        (name, f"{median(s):.3f}", f"{work / median(s):.1f}", f"{recall[name]:.5f}" if name in recall else "-")
        for name, s in seconds.items()
    ]
    ours = np.array(seconds["search"])
    figures = {
        "peak_fraction": round(float(median(np.array(seconds["matrix product"]) / ours)), 3),
        "best_peak_fraction": round(peak / float(ours.min()), 3),
        "ratio_faiss": round(float(median(np.array(seconds["faiss IndexFlatL2"]) / ours)), 2),
        "ratio_cdist": round(float(median(np.array(seconds["torch.cdist"]) / ours)), 2),
        "recall": recall["search"],
    }
    report(f"{QUERIES} x {bank.shape[1]} queries, bank {BANK}", ("what", "seconds", "GFLOP/s", "recall"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
