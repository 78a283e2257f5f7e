"""Does fine-tuning bring the miniature nearer to real defects, and how fast is it?

Quality: 10 tiles with one kind of defect are learnt, for an inpainting base and for text to image; samples before (the
untuned model, asked for the kind in plain words) and after are held against the other tiles of the kind by FID and KID
of an ImageNet ResNet-18, on crops around the defects where there are masks. Every seed draws other tiles and other
samples; intervals are Student's t, of the changes seed by seed, too. `--grid` writes before, after and real tiles as a
picture.

Speed: images a second of training, of the loop here (images and prompts encoded once) and of a plain loop in the manner
of diffusers' DreamBooth script (encoded at each step), with the same LoRA layers, batch and threads; medians of three.
"""

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CACHE, SHARED, report, tiles
from PIL import Image

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.metrics.quality.config import QualityConfig
from exdd_ray.metrics.quality.evaluate import measure_quality
from exdd_ray.metrics.seeds import Mean, mean_of
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.lora.config import LoraConfig, TuningConfig
from exdd_ray.synthesizers.lora.instances import Instance, instances
from exdd_ray.synthesizers.lora.latents import encoded
from exdd_ray.synthesizers.lora.layers import add_layers
from exdd_ray.synthesizers.lora.loss import Drawn, denoising_loss
from exdd_ray.synthesizers.painting.denoiser import encode_prompts
from exdd_ray.synthesizers.painting.model import fresh_pipeline
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize

PLAIN = {"blowhole": "hole", "break": "crack"}  # the kind in words that the miniature was taught
WEIGHTS = SHARED / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
SHOTS = 10
METRICS = ("fid", "kid")


def configs(base: str, kind: str, options: argparse.Namespace) -> dict[str, LoraConfig]:
    """The painter before and after."""
    shared: dict[str, Any] = {"base": base, "count": options.count, "filters": None}
    if base == "inpainting":
        shared["masks"] = {"source": "positives", "placed": "moved"}
    tuning = {"epochs": options.epochs, "keep_every": options.epochs}
    before = LoraConfig(**shared, tuning=None, prompts=(PLAIN[kind],))
    return {"before": before, "after": LoraConfig(**shared, tuning=tuning)}


def drawn_tiles(kind: str, seed: int) -> tuple[list[CatalogRow], list[CatalogRow], list[CatalogRow]]:
    """Tiles of a kind to learn, others of it, and 200 normal ones."""
    rows = catalog_rows(tiles())
    rng = np.random.default_rng(seed)
    of_kind = [row for row in rows if row.defect == kind]
    normal = [row for row in rows if row.label == 0]
    order = [of_kind[at] for at in rng.permutation(len(of_kind))]
    return order[:SHOTS], order[SHOTS:], [normal[at] for at in rng.permutation(len(normal))[:200]]


def quality(
    config: LoraConfig, seed: int, kind: str, store: Store
) -> tuple[dict[str, float], list[np.ndarray], list[np.ndarray]]:
    """FID and KID of a painter's samples, and pictures of some samples and of held-out tiles."""
    learnt, held_out, normal = drawn_tiles(kind, seed)
    made = synthesize(
        config, build_catalog(normal), build_catalog(learnt), seed, store, progress=terminal_progress
    ).samples
    how = QualityConfig(network="resnet18", weights=WEIGHTS, crops=not config.whole)
    figures = measure_quality(held_out, [sample.row for sample in made], how).figures
    found = {figure.name[:3].lower(): figure.value for figure in figures if figure.name[:3].lower() in METRICS}
    samples = [shown(one.row, config.whole) for one in made[:10]]
    return found, samples, [shown(row, config.whole) for row in held_out[:10]]


def shown(row: CatalogRow, whole: bool) -> np.ndarray:
    """A tile, or a square around its defect, uint8 [96 x 96 x 3]."""
    image, mask = read_pair(row)
    if not whole and mask is not None:
        rows, columns = np.nonzero(mask)
        reach = max(24, int(0.8 * max(np.ptp(rows), np.ptp(columns))) + 6)
        top, left = (max(int(part.min() + part.max()) // 2 - reach, 0) for part in (rows, columns))
        image = image[top : top + 2 * reach, left : left + 2 * reach]
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((96, 96)))


def measured(
    base: str, kind: str, options: argparse.Namespace, store: Store
) -> tuple[dict[str, dict[str, np.ndarray]], list[np.ndarray]]:
    """FID and KID of every seed before, after, and their difference; and rows of pictures of the first seed."""
    values: dict[str, dict[str, np.ndarray]] = {}
    pictures = []
    for when, config in configs(base, kind, options).items():
        each = [quality(config, seed, kind, store) for seed in options.seeds]
        pictures += [np.concatenate(each[0][1], axis=1)] + [np.concatenate(each[0][2], axis=1)] * (when == "after")
        values[when] = {metric: np.array([found[metric] for found, _, _ in each]) for metric in METRICS}
    values["change"] = {metric: values["after"][metric] - values["before"][metric] for metric in METRICS}
    return values, pictures


def measure_all(options: argparse.Namespace, store: Store) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Every base, kind and seed."""
    keys: dict[str, Any] = {}
    table, grid = [], []
    for base, kind in itertools.product(options.bases, options.kinds):
        values, pictures = measured(base, kind, options, store)
        grid += pictures
        for when, found in values.items():
            means = {metric: mean_of(found[metric]) for metric in METRICS}
            keys |= {f"{metric}_{when}_{base}_{kind}": _rounded(mean) for metric, mean in means.items()}
            table.append((base, kind, when, *(_cell(mean) for mean in means.values())))
            print(*table[-1], file=sys.stderr, sep="  ", flush=True)
    for metric, when in itertools.product(METRICS, ("before", "after")):
        of_all = [value[0] for key, value in keys.items() if key.startswith(f"{metric}_{when}_")]
        if of_all:
            keys[f"{metric}_{when}"] = round(float(np.mean(of_all)), 5)
    if options.grid is not None:
        Image.fromarray(np.concatenate(grid, axis=0)).save(options.grid)
    return keys, table


def _rounded(mean: Mean) -> list[float | None]:
    return [round(mean.value, 5), None if mean.half is None else round(mean.half, 5)]


def _cell(mean: Mean) -> str:
    return f"{mean.value:.5f}" + ("" if mean.half is None else f" ± {mean.half:.5f}")


def speed(options: argparse.Namespace) -> dict[str, float]:
    """Images a second of both loops, in turns, and the memory at their highest in MiB."""
    learnt, _, normal = drawn_tiles("blowhole", 0)
    config = LoraConfig(tuning={"text_encoder": False, "new_words": False, "flips": False})
    assert config.tuning is not None
    job = plan_chunks(config.model_copy(update={"count": 1}), build_catalog(normal), build_catalog(learnt), 0)[0]
    loops = {name: make(config, config.tuning, job, options.batch) for name, make in (("ours", ours), ("plain", plain))}
    for loop in loops.values():
        loop()  # the first step warms up
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(3):
        for name, loop in loops.items():
            started = time.perf_counter()
            for _ in range(options.steps):
                loop()
            seconds[name].append(time.perf_counter() - started)
    rates = {
        f"images_per_s_{name}": options.batch * options.steps / float(np.median(each)) for name, each in seconds.items()
    }
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**rates, "faster": rates["images_per_s_ours"] / rates["images_per_s_plain"], "memory_mib": memory}


def ours(config: LoraConfig, tuning: TuningConfig, job: Any, batch: int) -> Callable[[], None]:
    """A step of the loop here."""
    pipeline, images, stepped = prepared(config, tuning, job)
    latents = encoded(images, pipeline)
    with torch.no_grad():
        conditions = {prompt: encode_prompts(pipeline, [prompt], 0)[0] for prompt in {one.prompt for one in latents}}
    places = iter(range(10**9))

    def step() -> None:
        first = next(places) * batch
        drawn = [Drawn(latents[at % len(latents)], latents[0].prompt, at) for at in range(first, first + batch)]
        stepped(lambda: denoising_loss(drawn, conditions, pipeline, min_snr=tuning.min_snr, outside=1.0))

    return step


def plain(config: LoraConfig, tuning: TuningConfig, job: Any, batch: int) -> Callable[[], None]:
    """A step that encodes its images and prompts anew."""
    pipeline, images, stepped = prepared(config, tuning, job)
    pipeline.unet.to(memory_format=torch.contiguous_format)
    places = iter(range(10**9))

    def loss() -> torch.Tensor:
        first = next(places) * batch
        chosen = [images[at % len(images)] for at in range(first, first + batch)]
        with torch.no_grad():
            latents = encoded(chosen, pipeline)
            conditions = {one.prompt: encode_prompts(pipeline, [one.prompt], 0)[0] for one in chosen}
        drawn = [Drawn(one, one.prompt, first + at) for at, one in enumerate(latents)]
        return denoising_loss(drawn, conditions, pipeline, min_snr=tuning.min_snr, outside=1.0)

    return lambda: stepped(loss)


def prepared(config: LoraConfig, tuning: TuningConfig, job: Any) -> tuple[Any, list[Instance], Callable[..., None]]:
    """A pipeline with LoRA layers, the images to learn, and what makes an optimiser's step of a loss."""
    from diffusers import DDPMScheduler

    pipeline = fresh_pipeline(config)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    layers = add_layers(pipeline, tuning, 0)
    images = list(instances(replace(job, defects=job.defects[:2]), job.defects[:2], tuning, pipeline, 0))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=tuning.learning_rate)

    def step(loss: Callable[[], torch.Tensor]) -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
        optimizer.step()

    return pipeline, images, step


def rows_of(found: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Of the speed, for the table."""
    for name, value in found.items():
        yield "speed", name, "", f"{value:.2f}", ""


def main() -> int:
    """Quality, then speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="*", default=["inpainting", "text_to_image"])
    parser.add_argument("--kinds", nargs="+", choices=PLAIN, default=list(PLAIN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=60, help="samples of each painter")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--grid", type=Path, help="picture to write")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of a turn of the speed's measurement; 0 leaves it out")
    options = parser.parse_args()
    keys, table = measure_all(options, Store(Path(CACHE) / "store"))
    if options.steps:
        found = speed(options)
        keys |= {name: round(value, 3) for name, value in found.items()}
        table += rows_of(found)
    header = ("base", "kind", "when", "FID", "KID")
    report("LoRA of the miniature on 10 tiles", header, table, {**vars(options), "grid": str(options.grid), **keys})
    return 0


if __name__ == "__main__":
    sys.exit(main())
