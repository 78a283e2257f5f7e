"""Inpainted samples per second: the pipeline against the plain loop of one image a call, and two workers against one.

Here the bundled miniature paints magnetic tiles (procedural surfaces where they are absent). With a CUDA device
Stable Diffusion XL's inpainting networks do at true size: 1024 x 1024, 30 steps, float16, against the same loop. Their
weights are random, which run as fast as trained ones; nothing is said of what they paint. `--tiny` checks that part of
the script at toy size without one.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import torch
from common import SHARED, free_tiles, report
from PIL import Image
from sdxl import one_call, sdxl_speed

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.images import read_image
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.on_ray.cluster import connect
from exdd_ray.on_ray.synthesis import RayChunks
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.job import CHUNK, AnyJob
from exdd_ray.synthesizers.painting.masks import pick_mask
from exdd_ray.synthesizers.painting.model import load_pipeline
from exdd_ray.synthesizers.painting.paint import Painter, Scene
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize

REPEATS = 3
HEADER = ("what", "images/s", "over the loop")
CONFIG = InpaintConfig(prompts=("scratch", "hole", "stain", "crack"), count=8 * CHUNK, filters=None)


def backgrounds(folder: Path) -> pa.Table:
    """Forty tiles, or forty made surfaces."""
    if (SHARED / "data" / "magnetic-tile").is_dir():
        return free_tiles(40)
    rows = []
    for i in range(40):
        path = folder / f"{i}.png"
        Image.fromarray(make_surface("ceramic", (224, 224), np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(
                id=path.name, dataset="made", category="c", split="train", label=0, defect="good", image=str(path)
            )
        )
    return build_catalog(rows)


def scenes_of(job: AnyJob) -> list[Scene]:
    """The scenes of a chunk, drawn as the pipeline draws them."""
    scenes = []
    for number in range(job.start, job.start + CHUNK):
        rng = job.rng(number)
        row = job.backgrounds[int(rng.integers(len(job.backgrounds)))]
        canvas = read_image(row.image)
        assert isinstance(job.config, InpaintConfig)
        ground = foreground(canvas, job.config.masks.foreground)
        mask = pick_mask(job.config.masks, (canvas.shape[0], canvas.shape[1]), ground, (), rng).mask
        scenes.append(Scene(canvas, mask, job.prompt, job.sample_seed(number)))
    return scenes


def plain_loop(jobs: Sequence[AnyJob], config: InpaintConfig, folder: Path) -> float:
    """Images per second, all threads, images and masks saved."""
    pipeline = load_pipeline(config)
    folder.mkdir()
    started = time.perf_counter()
    for job in jobs:
        for number, scene in zip(job.numbers, scenes_of(job), strict=True):
            one_call(pipeline, scene, config).save(folder / f"{job.prompt} {number:06d}.png")
            Image.fromarray(scene.mask.astype(np.uint8) * 255).save(folder / f"{job.prompt} {number:06d}_mask.png")
    return CHUNK * len(jobs) / (time.perf_counter() - started)


def ours(normal: pa.Table, folder: Path) -> float:
    """Images per second of the whole stage into an empty store, the model loaded before."""
    Painter(CONFIG)
    started = time.perf_counter()
    made = synthesize(CONFIG, normal, normal.slice(0, 0), 0, Store(folder))
    return made.fresh / (time.perf_counter() - started)


def on_ray(jobs: Sequence[AnyJob], workers: int, folder: Path) -> float:
    """Images per second between the first chunks and the last: without the start of the workers."""
    done: list[tuple[float, int]] = []
    RayChunks(workers)(Store(folder), jobs, lambda images: done.append((time.perf_counter(), images)))
    skipped = 2
    return sum(n for _, n in done[skipped:]) / (done[-1][0] - done[skipped - 1][0])


def same_files(one: Path, other: Path) -> bool:
    """Whether two stores hold the same images, bit by bit."""
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.png")) for folder in (one, other)]
    return names[0] == names[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in names[0])


def same_images(normal: pa.Table, folder: Path, loop: Path) -> tuple[bool, int]:
    """Whether the loop's images are the pipeline's within one grey level, and the largest difference."""
    made = synthesize(CONFIG, normal, normal.slice(0, 0), 0, Store(folder))
    worst = 0
    for sample in made.samples:
        file = loop / f"{sample.prompt} {sample.row.id.rpartition('/')[2]}.png"
        worst = max(worst, int(np.abs(read_image(sample.row.image).astype(int) - read_image(str(file))).max()))
    return worst <= 1, worst


def on_sdxl(folder: Path, *, tiny: bool) -> tuple[list[tuple[str, str, str]], dict[str, object]]:
    """Rows and figures of SDXL's networks."""
    found = sdxl_speed(folder / "sdxl", tiny=tiny, compiled=not tiny, repeats=1 if tiny else REPEATS)
    rows = [
        ("SDXL, loop", f"{found.loop:.3f}", "1.00"),
        ("SDXL, pipeline", f"{found.pipeline:.3f}", f"{found.ratio:.2f}"),
    ]
    figures: dict[str, object] = {
        "sdxl_ratio_loop": round(found.ratio, 2),
        "sdxl_images_per_second": round(found.pipeline, 3),
        "sdxl_largest_difference": found.largest_difference,
    }
    return rows, figures


def main() -> int:
    """Measure in turn, so that a drift of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="check the part for CUDA at toy size, and nothing else")
    tiny = parser.parse_args().tiny
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if tiny:
            report("a check, not a measurement", HEADER, *on_sdxl(folder, tiny=True))
            return 0
        normal = backgrounds(folder)
        connect("local")
        jobs = plan_chunks(CONFIG, normal, normal.slice(0, 0), 0)
        found: dict[str, list[float]] = {"loop": [], "pipeline": [], "one worker": [], "two workers": []}
        for _ in range(REPEATS):
            for place in ("loop", "ours", "one", "two"):
                shutil.rmtree(folder / place, ignore_errors=True)
            found["loop"].append(plain_loop(jobs, CONFIG, folder / "loop"))
            found["pipeline"].append(ours(normal, folder / "ours"))
            found["one worker"].append(on_ray(jobs, 1, folder / "one"))
            found["two workers"].append(on_ray(jobs, 2, folder / "two"))
        identical, worst = same_images(normal, folder / "ours", folder / "loop")
        rows = [
            (what, f"{median(speeds):.2f}", f"{median(np.array(speeds) / found['loop']):.2f}")
            for what, speeds in found.items()
        ]
        figures: dict[str, object] = {
            "ratio_loop": round(float(median(np.array(found["pipeline"]) / found["loop"])), 2),
            "identical": identical,
            "largest_difference": worst,
            "identical_on_workers": same_files(folder / "one", folder / "two"),
            "two_workers": round(float(median(np.array(found["two workers"]) / found["one worker"])), 2),
        }
        if torch.cuda.is_available():
            more, speeds = on_sdxl(folder, tiny=False)
            rows += more
            figures |= speeds
    title = f"{CHUNK * len(jobs)} samples of {CONFIG.size[0]} pixels, {CONFIG.steps} steps"
    report(title, HEADER, rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
