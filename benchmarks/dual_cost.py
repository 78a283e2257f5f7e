"""What a pair costs, against an image of one branch alone (the same model with one LoRA and no SAIM).

Processor seconds on one thread and memory, each in a process of its own; medians of three batches.
"""

import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import CACHE
from dual_painters import scenes_of

from exdd_ray.synthesizers.dualanodiff.adapter import FILE, write_adapter
from exdd_ray.synthesizers.dualanodiff.config import DualConfig, DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.loss import denoised, seen_around
from exdd_ray.synthesizers.dualanodiff.network import add_branches, ready_to_paint
from exdd_ray.synthesizers.dualanodiff.paint import PairScene, pair_painter
from exdd_ray.synthesizers.dualanodiff.pairs import centred, encoded_views
from exdd_ray.synthesizers.painting.denoiser import encode_prompts
from exdd_ray.synthesizers.painting.model import fresh_pipeline, model_digest
from exdd_ray.synthesizers.synthesizer import Model


def cost(count: int, batch: int, guidance: float, folder: Path) -> tuple[float, float]:
    """Processor seconds an image of `count` branches, and the memory in MiB that it takes at the highest."""
    torch.set_num_threads(1)
    config = DualConfig(guidance=guidance, tuning={}, run={"batch": batch, "device": "cpu"})
    pipeline = fresh_pipeline(config)
    tuning = DualTuningConfig(saim="zero" if count == 2 else "off")
    layers = add_branches(pipeline, tuning, 0)
    scenes = scenes_of("blowhole", 0, config, [(0.25, 0.75, 0.25, 0.75)], batch)
    if count == 2:
        write_adapter(layers, tuning, [], Model(config.model, "", model_digest(config)), folder / FILE)
        painter = pair_painter(config, folder / FILE, "cost")
    else:
        ready_to_paint(pipeline, layers)
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


def measure_cost(batch: int, guidance: float) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    """Of pairs and of single images, in processes of their own."""
    folder = CACHE / "cost"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, count in (("single", 1), ("pair", 2)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(cost, (count, batch, guidance, folder))
    keys = {f"s_{name}": round(seconds, 4) for name, (seconds, _) in found.items()}
    keys |= {f"memory_mib_{name}": round(memory, 1) for name, (_, memory) in found.items()}
    keys["cost_over_single"] = round(found["pair"][0] / found["single"][0], 3)
    keys["memory_over_single"] = round(found["pair"][1] / found["single"][1], 3)
    return keys, [(name, "cost", f"{seconds:.3f} s", f"{memory:.0f} MiB") for name, (seconds, memory) in found.items()]
