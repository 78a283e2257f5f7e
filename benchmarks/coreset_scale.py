"""The greedy order at the size of KSDD2: 2,085 images x 560 patches x 1,536, 1 % picked, from a memory-mapped artifact.

The vectors are synthetic, as neither KSDD2 nor ResNet-50's weights are here. They are made like patches: every image
has a style (6 numbers), every patch a content that varies smoothly over the image (12 numbers, interpolated from a
10 x 4 grid) and a noise of its own; a fixed random matrix takes style and content to 1,536 components, of which the
negative ones become zero. With these numbers the covering radius falls with the picks as that of magnetic-tile patches
does (slope about -0.13 in logarithms). They are made in a process of their own, so that the peak memory is that of the
selection alone.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import CACHE, report

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Artifact, Recipe, Store

IMAGES, GRID, DIM, RATE = 2085, (40, 14), 1536, 0.01
STYLE, CONTENT, COARSE, NOISE = 6, 12, (10, 4), 0.2
IN_A_FILE = 15


def make_images(start: int, stop: int) -> np.ndarray:
    """Vectors float32 [(stop - start) * P x D] of some images; an image depends on its number alone."""
    mixing = torch.from_numpy(np.random.default_rng(0).standard_normal((STYLE + CONTENT, DIM)).astype(np.float32))
    parts = []
    for image in range(start, stop):
        rng = np.random.default_rng([1, image])
        coarse = torch.from_numpy(rng.standard_normal((1, CONTENT, *COARSE)).astype(np.float32))
        content = torch.nn.functional.interpolate(coarse, size=GRID, mode="bilinear")[0].reshape(CONTENT, -1).T
        style = torch.from_numpy(rng.standard_normal(STYLE).astype(np.float32)).expand(len(content), -1)
        noise = torch.from_numpy(rng.standard_normal((len(content), DIM), dtype=np.float32))
        parts.append((torch.cat([style, content], 1) @ mixing / (STYLE + CONTENT) ** 0.5 + NOISE * noise).relu_())
    return torch.cat(parts).numpy()


def vectors_artifact(store: Store) -> Artifact:
    """The vectors, in files of a few images each; made unless the store has them."""
    how = {"images": IMAGES, "grid": GRID, "dim": DIM, "latent": (STYLE, CONTENT, *COARSE), "noise": NOISE}

    def build(folder: Path) -> None:
        for start in range(0, IMAGES, IN_A_FILE):
            vectors = make_images(start, min(start + IN_A_FILE, IMAGES))
            write_arrays(folder / f"{start:05}.arrow", {"vectors": vectors})

    return store.make(Recipe("synthetic-vectors", 1, how, ()), build)


def show(made: int, wanted: int) -> None:
    """The state of a run of minutes."""
    print(f"\r{made} of {wanted} picks", end="", file=sys.stderr)


def main() -> int:
    """Make the vectors elsewhere, select here."""
    store = Store(CACHE / "store")
    if len(sys.argv) > 1:
        vectors_artifact(store)
        return 0
    subprocess.run([sys.executable, __file__, "make"], check=True)
    artifact = vectors_artifact(store)
    files = [artifact.file(f"{start:05}.arrow") for start in range(0, IMAGES, IN_A_FILE)]
    points = VectorBlocks([read_arrays(file)["vectors"] for file in files])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    order = greedy_order(points, int(RATE * len(points)), first=0, progress=show)
    seconds = time.perf_counter() - started
    print(file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    plain = 2 * len(points) * points.dim * len(order.indices) / seconds / 1e9
    rows = [
        ("vectors", f"{len(points)} x {points.dim} float32, {points.nbytes / 2**30:.2f} GiB mapped"),
        ("seconds", f"{seconds:.1f} ({seconds / len(order.indices) * 1e3:.2f} ms a pick)"),
        ("rounds", str(order.rounds)),
        ("peak memory", f"{peak:.2f} GiB, of which {before:.2f} before it began"),
        ("last covering radius", f"{order.radii[-1]:.3f} (at the first 10: {order.radii[10]:.3f})"),
        ("as fast as the plain loop at", f"{plain:.0f} GFLOP/s"),
    ]
    figures = {
        "peak_gib": round(peak, 2),
        "seconds": round(seconds, 1),
        "rounds": order.rounds,
        "picks": len(order.indices),
    }
    report("Coreset at the size of KSDD2", ("what", "value"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
