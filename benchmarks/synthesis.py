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
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from common import SHARED, free_tiles, report
from PIL import Image

from exdd_ray.config.synthesis import InpaintConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.images import read_image
from exdd_ray.edge.cluster import connect
from exdd_ray.edge.synthesis import RayChunks
from exdd_ray.miniature.networks import make_tokenizer
from exdd_ray.procedural.surfaces import make_surface
from exdd_ray.store.artifact import Store
from exdd_ray.synthesis.chunk import CHUNK, ChunkJob, sample_seed
from exdd_ray.synthesis.foreground import foreground
from exdd_ray.synthesis.masks import pick_mask
from exdd_ray.synthesis.model import load_pipeline
from exdd_ray.synthesis.paint import Painter, Scene
from exdd_ray.synthesis.synthesize import plan_chunks, synthesize

REPEATS = 3
CONFIG = InpaintConfig(prompts=("scratch", "hole", "stain", "crack"), count=2 * CHUNK, filters=None)


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


def scenes_of(job: ChunkJob) -> list[Scene]:
    """The scenes of a chunk, drawn as the pipeline draws them."""
    scenes = []
    for number in range(job.start, job.start + CHUNK):
        rng = job.rng(number)
        row = job.backgrounds[int(rng.integers(len(job.backgrounds)))]
        canvas = read_image(row.image)
        assert isinstance(job.config, InpaintConfig)
        ground = foreground(canvas, job.config.masks.foreground)
        mask = pick_mask(job.config.masks, (canvas.shape[0], canvas.shape[1]), ground, (), rng).mask
        scenes.append(Scene(canvas, mask, job.prompt, sample_seed(job.seed, job.prompt, number)))
    return scenes


def one_call(pipeline: Any, scene: Scene, config: InpaintConfig) -> Image.Image:
    """A sample as the published code makes it: one call of the pipeline, with its own crop around the mask."""
    image: Image.Image = pipeline(
        prompt=scene.prompt,
        negative_prompt=config.negative_prompt or None,
        image=Image.fromarray(scene.canvas),
        mask_image=Image.fromarray(scene.mask.astype(np.uint8) * 255),
        height=config.size[0],
        width=config.size[1],
        padding_mask_crop=config.crop_padding,
        strength=config.strength,
        guidance_scale=config.guidance,
        num_inference_steps=config.steps,
        generator=torch.Generator("cpu").manual_seed(scene.seed),
    ).images[0]
    return image


def plain_loop(jobs: Sequence[ChunkJob], config: InpaintConfig, folder: Path) -> float:
    """Images per second, all threads, images and masks saved."""
    pipeline = load_pipeline(config)
    folder.mkdir()
    started = time.perf_counter()
    for number, scene in enumerate(scene for job in jobs for scene in scenes_of(job)):
        one_call(pipeline, scene, config).save(folder / f"{number:06d}.png")
        Image.fromarray(scene.mask.astype(np.uint8) * 255).save(folder / f"{number:06d}_mask.png")
    return CHUNK * len(jobs) / (time.perf_counter() - started)


def ours(normal: pa.Table, folder: Path) -> float:
    """Images per second of the whole stage into an empty store, the model loaded before."""
    Painter(CONFIG)
    started = time.perf_counter()
    made = synthesize(CONFIG, normal, normal.slice(0, 0), 0, Store(folder))
    return made.fresh / (time.perf_counter() - started)


def on_ray(jobs: Sequence[ChunkJob], workers: int, folder: Path) -> float:
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
    for sample, file in zip(made.samples, sorted(loop.glob("*[0-9].png")), strict=True):
        worst = max(worst, int(np.abs(read_image(sample.row.image).astype(int) - read_image(str(file))).max()))
    return worst <= 1, worst


def sdxl(tiny: bool) -> Any:
    """SDXL's inpainting pipeline in its published shape (or of its kind, small) with random weights."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 77
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": tokenizer.eos_token_id}
    widths = ((32, 32, 64), (4, 4, 8), (16, 16)) if tiny else ((768, 1280, 2048), (5, 10, 20), (12, 32))
    (first, second, cross), heads, layers = widths
    layers = (1, 1) if tiny else layers
    one = CLIPTextConfig(
        hidden_size=first,
        intermediate_size=4 * first,
        num_hidden_layers=layers[0],
        num_attention_heads=first // (16 if tiny else 64),
        projection_dim=first,
        **text,
    )
    two = CLIPTextConfig(
        hidden_size=second,
        intermediate_size=4 * second,
        num_hidden_layers=layers[1],
        num_attention_heads=second // (16 if tiny else 64),
        projection_dim=second,
        **text,
    )
    blocks = (32, 32, 64) if tiny else (320, 640, 1280)
    unet = UNet2DConditionModel(
        sample_size=8 if tiny else 128,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=blocks,
        layers_per_block=1 if tiny else 2,
        transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
        attention_head_dim=heads,
        cross_attention_dim=cross,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32 if tiny else 256,
        projection_class_embeddings_input_dim=(6 * 32 + second) if tiny else 2816,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32) if tiny else (128, 256, 512, 512),
        layers_per_block=1 if tiny else 2,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=True,
    )
    return StableDiffusionXLInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(one),
        text_encoder_2=CLIPTextModelWithProjection(two),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )


def sdxl_speed(folder: Path, tiny: bool) -> tuple[list[tuple[str, ...]], dict[str, object]]:
    """SDXL in the pipeline and in the loop, both in float16 on the device."""
    model, side = folder / "sdxl", 64 if tiny else 1024
    pipeline = sdxl(tiny)
    pipeline.to(dtype=torch.float32 if tiny else torch.float16).save_pretrained(model)
    del pipeline
    count = 4 if tiny else 16
    settings = {"model": str(model), "size": (side, side), "steps": 2 if tiny else 30, "filters": None}
    config = InpaintConfig.model_validate({**settings, "run": {"batch": 8, "compile": not tiny}})
    plain = InpaintConfig.model_validate(settings)
    scenes = []
    for i in range(count):
        rng = np.random.default_rng(i)
        canvas = make_surface("ceramic", (side, side), rng)
        mask = np.zeros((side, side), dtype=bool)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        scenes.append(Scene(canvas, mask, "scratch", i))
    painter = Painter(config)
    loop = load_pipeline(plain)
    painter.paint(scenes[: config.run.batch])
    one_call(loop, scenes[0], plain)
    fast, slow, worst = [], [], 0
    for _ in range(1 if tiny else REPEATS):
        started = time.perf_counter()
        painted = painter.paint(scenes)
        fast.append(count / (time.perf_counter() - started))
        started = time.perf_counter()
        called = [one_call(loop, scene, plain) for scene in scenes[: count // 2]]
        slow.append(count // 2 / (time.perf_counter() - started))
        for mine, other in zip(painted, called, strict=False):
            assert isinstance(mine, np.ndarray)
            worst = max(worst, int(np.abs(mine.astype(int) - np.asarray(other)).max()))
    ratio = float(median(np.array(fast) / slow))
    rows = [("SDXL, loop", f"{median(slow):.3f}", "1.00"), ("SDXL, pipeline", f"{median(fast):.3f}", f"{ratio:.2f}")]
    speeds = {"sdxl_ratio_loop": round(ratio, 2), "sdxl_images_per_second": round(median(fast), 3)}
    return [tuple(row) for row in rows], {**speeds, "sdxl_largest_difference": worst}


def main() -> int:
    """Measure in turn, so that a drift of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="check the part for CUDA at toy size, and nothing else")
    tiny = parser.parse_args().tiny
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if tiny:
            rows, figures = sdxl_speed(folder, tiny)
            report("a check, not a measurement", ("what", "images/s", "over the loop"), rows, figures)
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
        figures = {
            "ratio_loop": round(float(median(np.array(found["pipeline"]) / found["loop"])), 2),
            "identical": identical,
            "largest_difference": worst,
            "identical_on_workers": same_files(folder / "one", folder / "two"),
            "two_workers": round(float(median(np.array(found["two workers"]) / found["one worker"])), 2),
        }
        if torch.cuda.is_available():
            more, speeds = sdxl_speed(folder, tiny)
            rows += more
            figures |= speeds
    title = f"{CHUNK * len(jobs)} samples of {CONFIG.size[0]} pixels, {CONFIG.steps} steps"
    report(title, ("what", "images/s", "over the loop"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
