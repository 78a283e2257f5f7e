"""The greedy order of real patches: against anomalib's KCenterGreedy and the two plain loops.

200 defect-free tiles at 224 pixels, ResNet-18: 156,800 x 384, of which 1 % is picked. The slower ways make fewer picks
and are extrapolated, which their row says: each of their picks costs the same.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from common import report, tile_features

from exdd_ray.banks.coreset import CoresetOrder, greedy_order

IMAGES, RATE = 200, 0.01
REPEATS = 3
GEMV_PICKS, NORM_PICKS, ANOMALIB_PICKS = 100, 20, 40


def gemv_loop(points: torch.Tensor, picks: int) -> None:
    """One matrix-vector product a pick, all threads: |x|^2 - 2xc + |c|^2."""
    squares = points.square().sum(1)
    left = torch.full((len(points),), torch.inf)
    best = 0
    for _ in range(picks):
        torch.minimum(left, squares - 2 * (points @ points[best]) + squares[best], out=left)
        best = int(left.argmax())


def norm_loop(points: torch.Tensor, picks: int) -> None:
    """The distance to every point, a pick at a time, all threads."""
    left = torch.full((len(points),), torch.inf)
    best = 0
    for _ in range(picks):
        torch.minimum(left, torch.linalg.vector_norm(points - points[best], dim=1), out=left)
        best = int(left.argmax())


def anomalib_loop(points: torch.Tensor, picks: int) -> None:
    """anomalib's KCenterGreedy, its sparse random projection included."""
    from anomalib.models.components.sampling import KCenterGreedy

    sampler = KCenterGreedy(points, sampling_ratio=RATE)
    sampler.coreset_size = picks
    sampler.select_coreset_idxs()


def seconds_of(loop: Callable[[torch.Tensor, int], None], points: torch.Tensor, picks: int, wanted: int) -> float:
    """Seconds for all the picks wanted, from two shorter runs: what one pick costs, and what comes before the first."""
    started = time.perf_counter()
    loop(points, picks // 4)
    between = time.perf_counter()
    loop(points, picks)
    short, long = between - started, time.perf_counter() - between
    a_pick = (long - short) / (picks - picks // 4)
    return short + a_pick * (wanted - picks // 4)


def is_farthest_first(points: np.ndarray, order: np.ndarray) -> bool:
    """Checks every pick in double precision: is it the point farthest from all picks before it?

    This is what the plain loop does, in another order of work: the running minimum over the picks for a block of
    points, then the maximum over the points at every pick.
    """
    picks = torch.from_numpy(points[order]).double()
    farthest = torch.full((len(order),), -torch.inf, dtype=torch.float64)
    where = torch.full((len(order),), -1)
    for start in range(0, len(points), 4096):
        block = torch.from_numpy(points[start : start + 4096]).double()
        squares = block.square().sum(1)[:, None] + picks.square().sum(1) - 2 * block @ picks.T
        value, row = squares.cummin(1).values.max(0)
        better = value > farthest
        farthest[better], where[better] = value[better], row[better] + start
    return bool((where[:-1].numpy() == order[1:]).all())


def main() -> int:
    """Time all, in turn."""
    try:
        import anomalib  # noqa: F401
    except ImportError:
        sys.exit("anomalib is absent: uv run --group bench python benchmarks/coreset.py")
    _, vectors = tile_features(IMAGES)
    points, wanted = torch.from_numpy(vectors), int(RATE * len(vectors))
    others = {
        "matrix-vector loop": (gemv_loop, GEMV_PICKS),
        "norm loop": (norm_loop, NORM_PICKS),
        "anomalib KCenterGreedy": (anomalib_loop, ANOMALIB_PICKS),
    }
    orders: list[CoresetOrder] = []
    seconds: dict[str, list[float]] = {name: [] for name in ("greedy_order", *others)}
    for _ in range(REPEATS):
        started = time.perf_counter()
        orders.append(greedy_order(vectors, wanted, first=0))
        seconds["greedy_order"].append(time.perf_counter() - started)
        for name, (loop, picks) in others.items():
            seconds[name].append(seconds_of(loop, points, picks, wanted))
    ratio = {name: median(np.array(times) / np.array(seconds["greedy_order"])) for name, times in seconds.items()}
    made = {"greedy_order": wanted, **{name: picks for name, (_, picks) in others.items()}}
    rows = [
        (name, f"{median(times):.2f}", f"{ratio[name]:.1f}", "" if made[name] == wanted else f"from {made[name]} picks")
        for name, times in seconds.items()
    ]
    figures = {
        "ratio_anomalib": round(float(ratio["anomalib KCenterGreedy"]), 1),
        "ratio_gemv": round(float(ratio["matrix-vector loop"]), 1),
        "ratio_norm": round(float(ratio["norm loop"]), 1),
        "identical": is_farthest_first(vectors, orders[0].indices),
        "rounds": orders[0].rounds,
        "seconds": round(median(seconds["greedy_order"]), 2),
    }
    title = f"{wanted} of {len(vectors)} x {vectors.shape[1]} patches"
    report(title, ("what", "seconds", "times ours", "extrapolated"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
