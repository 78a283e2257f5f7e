"""Pairs of image and mask on magnetic tiles: does the mask fit, what are they worth to a localiser, what do they cost?

Fit: 8 tiles with one kind of defect are learnt, blowhole or break, and pairs are painted in windows of normal tiles.
What changed is where the painted window differs from the normal one, by the rule that cuts the mask (blurred by two
pixels, two fifths of the largest difference); its intersection over union with the mask is averaged over all pairs,
also those that are dropped as of no use. Without SAIM the branches share prompts and times alone. Every seed draws
other tiles and other noise; intervals are Student's t. `--grid` writes normal windows, images, parts, masks, what
changed and the samples, one below another.

Worth and variety are explained in `localiser.py`, cost in `dual_cost.py`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import CACHE, report
from dual_cost import measure_cost
from dual_painters import KINDS, SAIM, scenes_of, trained_painter
from localiser import measure_worth
from PIL import Image

from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.dualanodiff.adapter import FILE
from exdd_ray.synthesizers.dualanodiff.config import DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.masks import changed_region, fault_of, part_mask
from exdd_ray.synthesizers.dualanodiff.paint import PairPainter, PairScene, pair_painter

Rows = list[tuple[str, ...]]


def fit(painter: PairPainter, scenes: list[PairScene]) -> tuple[list[float], list[str], list[np.ndarray]]:
    """Of each pair the IoU of its mask with what changed, what is wrong with it, and its picture [6h x w x 3]."""
    how, overlaps, faults, pictures = painter.config.mask, [], [], []
    pairs = (pair for batch, _ in painter.paint(scenes) for pair in batch)
    for scene, pair in zip(scenes, pairs, strict=True):
        whole, part = pair.astype(np.uint8)
        mask = part_mask(part, painter.tuning.backdrop, how)
        changed = changed_region(scene.background, whole, how)
        overlaps.append(float((mask & changed).sum() / max((mask | changed).sum(), 1)))
        faults.append(fault_of(mask, changed, how))
        sample = np.where(mask[..., None], whole, scene.background)
        drawn = [np.repeat(one[..., None].astype(np.uint8) * 255, 3, axis=2) for one in (mask, changed)]
        pictures.append(np.concatenate([scene.background, whole, part, *drawn, sample]))
    return overlaps, faults, pictures


def measure_fit(options: argparse.Namespace, store: Store) -> tuple[dict[str, Any], Rows]:
    """Every kind, with SAIM and without, over seeds."""
    keys: dict[str, Any] = {}
    table: Rows = []
    grid: list[np.ndarray] = []
    for saim in options.saim:
        means: dict[int, list[float]] = {seed: [] for seed in options.seeds}
        for kind in options.kinds:
            overlaps, faults = [], []
            for seed in options.seeds:
                config, artifact = trained_painter(saim, kind, seed, options.steps, store)
                painter = pair_painter(config, artifact.file(FILE), artifact.key)
                scenes = scenes_of(kind, seed, config, painter.boxes, options.count)
                found, wrong, pictures = fit(painter, scenes)
                overlaps.append(float(np.mean(found)))
                means[seed].append(overlaps[-1])
                faults += wrong
                if seed == options.seeds[0] and saim == "saim":
                    grid.append(np.concatenate(pictures[:12], axis=1))
            mean, dropped = mean_of(np.array(overlaps)), sum(map(bool, faults)) / len(faults)
            keys |= {f"iou_{saim}_{kind}": [round(mean.value, 4), mean.half], f"dropped_{saim}_{kind}": dropped}
            table.append((saim, kind, _shown(mean.value, mean.half), f"{dropped:.0%}"))
            print(*table[-1], file=sys.stderr, sep="  ", flush=True)
        of_all = mean_of(np.array([np.mean(each) for each in means.values()]))
        keys |= {f"iou_{saim}": round(of_all.value, 4), f"iou_{saim}_half": of_all.half}
        table.append((saim, "all", _shown(of_all.value, of_all.half), ""))
    if options.grid is not None and grid:
        Image.fromarray(np.concatenate(grid)).save(options.grid)
    return keys, table


def _shown(value: float, half: float | None) -> str:
    return f"{value:.3f}" + ("" if half is None else f" ± {half:.3f}")


def worth(options: argparse.Namespace, store: Store) -> tuple[dict[str, Any], Rows]:
    """What the pairs of the first seed's painters are worth to a localiser."""
    trained = {kind: trained_painter("saim", kind, 0, options.steps, store)[1] for kind in KINDS}
    adapters = {kind: artifact.file(FILE) for kind, artifact in trained.items()}
    return measure_worth(adapters, options.localiser_seeds, options.defects, options.epochs, store)


def _take(found: tuple[Mapping[str, Any], Rows], keys: dict[str, Any], table: Rows) -> None:
    keys.update(found[0])
    table.extend(found[1])


def main() -> int:
    """The fit of masks, what pairs are worth, and the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["fit", "worth", "cost"], default=["fit", "worth", "cost"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of painters")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of defects, whose fit is measured")
    parser.add_argument("--saim", nargs="+", choices=SAIM, default=["saim", "plain"], help="that painters have")
    parser.add_argument("--count", type=int, default=40, help="pairs of each painter whose fit is measured")
    parser.add_argument("--steps", type=int, default=DualTuningConfig().steps, help="of a painter's training")
    parser.add_argument("--grid", type=Path, help="picture to write")
    parser.add_argument("--localiser-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--defects", type=int, default=60, help="synthetic ones that a localiser is trained on")
    parser.add_argument("--epochs", type=int, default=20, help="of the localiser")
    parser.add_argument("--batch", type=int, default=10, help="images at once, of the cost")
    parser.add_argument("--guidance", type=float, default=1.0, help="of the cost")
    options = parser.parse_args()
    store, keys = Store(CACHE / "store"), {**vars(options), "grid": str(options.grid)}
    table: Rows = []
    if "fit" in options.parts:
        _take(measure_fit(options, store), keys, table)
    if "worth" in options.parts:
        _take(worth(options, store), keys, table)
    if "cost" in options.parts:
        _take(measure_cost(options.batch, options.guidance), keys, table)
    report("Pairs of the miniature from 8 tiles", ("what", "of", "value", "dropped, or memory"), table, keys)
    return 0


if __name__ == "__main__":
    sys.exit(main())
