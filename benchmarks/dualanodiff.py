"""Does the mask of a pair fit what was painted, with SAIM and without, and what does a pair cost?

Fit: 8 tiles with one kind of defect are learnt, blowhole or break, and pairs are painted in windows of normal tiles.
What changed is where the painted window differs from the normal one, blurred by a pixel, by more than a level; its
intersection over union with the mask is averaged over all pairs, also those that are dropped as of no use. Without SAIM
the branches share prompts and times alone. Every seed draws other tiles and other noise; intervals are Student's t.
`--grid` writes normal windows, images, parts, masks, what changed and the samples, one below another.

Cost: processor seconds on one thread and memory of a pair, and of an image of one branch alone (the same model with one
LoRA and no SAIM), each in a process of its own; medians of three batches.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CACHE, report, tiles
from PIL import Image

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.metrics.seeds import mean_of
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.chunk import trained_for
from exdd_ray.synthesizers.dualanodiff.adapter import FILE, write_adapter
from exdd_ray.synthesizers.dualanodiff.config import DualConfig, DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.loss import denoised, seen_around
from exdd_ray.synthesizers.dualanodiff.masks import changed_region, fault_of, part_mask
from exdd_ray.synthesizers.dualanodiff.network import add_branches
from exdd_ray.synthesizers.dualanodiff.paint import PairPainter, PairScene, pair_painter
from exdd_ray.synthesizers.dualanodiff.pairs import box_around, centred, encoded_views, resized, window_anywhere
from exdd_ray.synthesizers.fits import Fit
from exdd_ray.synthesizers.painting.denoiser import encode_prompts
from exdd_ray.synthesizers.painting.model import fresh_pipeline
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesizer import Model

SHOTS = 8
SAIM = {"saim": "zero", "plain": "off"}


def drawn_tiles(kind: str, seed: int) -> tuple[list[CatalogRow], list[CatalogRow]]:
    """Tiles of a kind to learn, and 200 normal ones."""
    rows, rng = catalog_rows(tiles()), np.random.default_rng(seed)
    of_kind = [row for row in rows if row.defect == kind]
    normal = [row for row in rows if row.label == 0]
    learnt = [of_kind[at] for at in rng.permutation(len(of_kind))[:SHOTS]]
    return learnt, [normal[at] for at in rng.permutation(len(normal))[:200]]


def painter_of(saim: str, kind: str, seed: int, options: argparse.Namespace, store: Store) -> PairPainter:
    """The painter that has learnt 8 tiles of a kind; trained where the store lacks it."""
    learnt, normal = drawn_tiles(kind, seed)
    config = DualConfig(kinds=(kind,), count=1, tuning={"saim": SAIM[saim], "steps": options.steps})
    job = plan_chunks(config, build_catalog(normal), build_catalog(learnt), seed)[0]
    Fit(f"{kind} {saim}", job).train(store, terminal_progress)
    artifact = trained_for(job, store)
    assert artifact is not None
    return pair_painter(config, artifact.file(FILE), artifact.key)


def scenes_of(kind: str, seed: int, config: DualConfig, count: int) -> list[PairScene]:
    """Windows of normal tiles to paint in."""
    _, normal = drawn_tiles(kind, seed)
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image, _ = read_pair(normal[number % len(normal)])
        window = window_anywhere((image.shape[0], image.shape[1]), config.window, rng)
        box = box_around(np.zeros(config.size, dtype=bool), config.box, rng)
        found.append(PairScene(resized(image[window], config.size), box, number))
    return found


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


def measure_fit(options: argparse.Namespace, store: Store) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Every kind, with SAIM and without, over seeds."""
    keys: dict[str, Any] = {}
    table: list[tuple[str, ...]] = []
    grid: list[np.ndarray] = []
    for saim in SAIM:
        means: dict[int, list[float]] = {seed: [] for seed in options.seeds}
        for kind in options.kinds:
            overlaps, faults = [], []
            for seed in options.seeds:
                painter = painter_of(saim, kind, seed, options, store)
                found, wrong, pictures = fit(painter, scenes_of(kind, seed, painter.config, options.count))
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


def cost(count: int, batch: int, guidance: float, folder: Path) -> tuple[float, float]:
    """Processor seconds an image of `count` branches, and the memory in MiB that it takes at the highest."""
    torch.set_num_threads(1)
    config = DualConfig(guidance=guidance, tuning={}, run={"batch": batch, "device": "cpu"})
    pipeline = fresh_pipeline(config)
    tuning = DualTuningConfig(saim="zero" if count == 2 else "off")
    layers = add_branches(pipeline, tuning, 0)
    scenes = scenes_of("blowhole", 0, config, batch)
    if count == 2:
        write_adapter(layers, tuning, Model(config.model, "", _digest(config)), folder / FILE)
        painter = pair_painter(config, folder / FILE, "cost")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3):
        started = time.process_time()
        if count == 2:
            list(painter.paint(scenes))
        else:
            paint_alone(pipeline, layers, scenes, config)
        seconds.append((time.process_time() - started) / batch)
    return statistics.median(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _digest(config: DualConfig) -> str:
    from exdd_ray.synthesizers.painting.model import model_digest

    return model_digest(config)


@torch.no_grad()
def paint_alone(pipeline: Any, layers: Any, scenes: list[PairScene], config: DualConfig) -> None:
    """What one branch alone paints: whole images."""
    for processor in layers.processors.values():
        processor.branches = 1
    prompts = encode_prompts(pipeline, [DualTuningConfig().whole_prompt, ""], 0)
    seen = [encoded_views([centred(scene.background)], scene.box, None, pipeline) for scene in scenes]
    around = seen_around(seen)
    guided = config.guidance != 1
    pipeline.scheduler.set_timesteps(config.steps)
    clean = torch.cat([one.moments.chunk(2, dim=1)[0] for one in seen])
    latents = pipeline.scheduler.add_noise(clean, torch.randn_like(clean), pipeline.scheduler.timesteps[:1])
    conditions = [prompts[1 - half] for half in range(2) for _ in scenes] if guided else [prompts[0]] * len(scenes)
    rows = len(conditions) // len(scenes)
    for when in pipeline.scheduler.timesteps:
        given = torch.cat([latents] * rows)
        beside = None if around is None else torch.cat([around] * rows)
        found = denoised(given, when.repeat(len(given)), conditions, beside, pipeline).chunk(rows)
        predicted = torch.lerp(found[0], found[-1], config.guidance) if guided else found[0]
        latents = pipeline.scheduler.step(predicted, when, latents, return_dict=False)[0]
    pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor)


def measure_cost(options: argparse.Namespace) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    """Of pairs and of single images, in processes of their own."""
    folder = Path(CACHE) / "cost"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, count in (("single", 1), ("pair", 2)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(cost, (count, options.batch, options.guidance, folder))
    keys = {f"s_{name}": round(seconds, 4) for name, (seconds, _) in found.items()}
    keys |= {f"memory_mib_{name}": round(memory, 1) for name, (_, memory) in found.items()}
    keys["cost_over_single"] = round(found["pair"][0] / found["single"][0], 3)
    keys["memory_over_single"] = round(found["pair"][1] / found["single"][1], 3)
    return keys, [(name, "cost", f"{seconds:.3f} s", f"{memory:.0f} MiB") for name, (seconds, memory) in found.items()]


def main() -> int:
    """The fit of masks, then the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", choices=["blowhole", "break"], default=["blowhole", "break"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=40, help="pairs of each painter")
    parser.add_argument("--steps", type=int, default=DualTuningConfig().steps, help="of a training")
    parser.add_argument("--batch", type=int, default=10, help="images at once, of the cost; 0 leaves it out")
    parser.add_argument("--guidance", type=float, default=DualConfig().guidance, help="of the cost")
    parser.add_argument("--grid", type=Path, help="picture to write")
    options = parser.parse_args()
    keys, table = measure_fit(options, Store(Path(CACHE) / "store")) if options.kinds else ({}, [])
    if options.batch:
        costs, rows = measure_cost(options)
        keys |= costs
        table += rows
    header = ("SAIM", "kind", "IoU of mask and change", "dropped")
    report("Pairs of the miniature from 8 tiles", header, table, {**vars(options), "grid": str(options.grid), **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
