"""DiffusionAD's steps, and SDXL inpainting."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sdxl import sdxl_speed

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.progress import Advance
from gpu_parts.measure import Bench, tell


def diffusionad(bench: Bench) -> None:
    """Training steps as a run makes them, the same with ready samples, and inference."""
    from exdd_ray.methods.diffusionad.inference import anomaly_maps, seeded_noise
    from exdd_ray.methods.diffusionad.learner import batch_loss
    from exdd_ray.methods.diffusionad.networks import make_networks
    from exdd_ray.methods.diffusionad.training_samples import draw_batch

    config = _config(bench)
    normal = np.stack([make_surface("ceramic", (config.size,) * 2, np.random.default_rng(i)) for i in range(8)])
    step = _training_step(normal, config, 3 if bench.tiny else 8)
    tell("diffusionad_step_seconds", step, f"{1e3 * step:.0f} ms", f"a training step of {config.training.batch} images")
    networks = make_networks(config, 0)
    for network in networks.modules.values():
        network.to(bench.device)
    samples, low = draw_batch(normal, config, 0, 0), config.training.precision == "bfloat16"

    def pass_back() -> None:
        with torch.autocast(bench.device, torch.bfloat16, enabled=low):
            loss = batch_loss(networks, samples, config)
        loss.backward()

    bare = bench.seconds(pass_back)
    tell("diffusionad_bare_seconds", bare, f"{1e3 * bare:.0f} ms", "forward and back alone, the samples ready")
    drawn = bench.seconds(lambda: draw_batch(normal, config, 0, 0), 3)
    tell("diffusionad_draw_seconds", drawn, f"{1e3 * drawn:.0f} ms", "drawing the samples of a step on the host")
    noise = seeded_noise(0, [str(i) for i in range(len(normal))], config.size)
    took = bench.seconds(lambda: anomaly_maps(networks, normal, noise, config, lambda _: None))
    rate = f"{len(normal) / took:.1f} images/s"
    tell("diffusionad_infer_seconds", took, f"{1e3 * took:.0f} ms", f"maps of {len(normal)} images, {rate}")
    bench.profile(pass_back)


def inpainting(bench: Bench) -> None:
    """SDXL's networks in batches against one image a call."""
    with tempfile.TemporaryDirectory() as folder:
        found = sdxl_speed(Path(folder), tiny=bench.tiny, compiled=False, repeats=1)
    tell("sdxl_loop_images_per_second", found.loop, f"{found.loop:.3f} images/s", "one image a call")
    shown, remark = f"{found.pipeline:.3f} images/s", f"in batches, {found.ratio:.2f} x the loop"
    tell("sdxl_images_per_second", found.pipeline, shown, remark)
    worst = found.largest_difference
    tell("sdxl_largest_difference", worst, f"{worst} grey levels", f"{bench.peak_gib():.1f} GiB on the device")


def _config(bench: Bench) -> DiffusionADConfig:
    """The published networks on a device."""
    if bench.tiny:
        levels = {"base": 8, "multipliers": (1, 2)}
        networks = {"reconstruction": {**levels, "layers": 1, "groups": 4}, "segmentation": levels}
        return DiffusionADConfig.model_validate({"scale": "small", **networks, "training": {"batch": 2}})
    training = {"batch": 16, "precision": "bfloat16", "checkpoint_every": 10**6, "validate_every": 10**6}
    return DiffusionADConfig.model_validate({"training": training})


def _training_step(normal: np.ndarray, config: DiffusionADConfig, steps: int) -> float:
    """Median seconds of a step; neither the first, which warms up, nor the last, which writes a checkpoint."""
    from exdd_ray.methods.diffusionad.learner import make_learner
    from exdd_ray.methods.diffusionad.networks import make_networks
    from exdd_ray.training.loop import train

    ends: list[float] = []

    @contextmanager
    def clock(label: str, total: int) -> Iterator[Advance]:
        del label, total
        yield lambda _: ends.append(time.perf_counter())

    learner = make_learner(make_networks(config, 0), normal, config, steps, 0)
    with tempfile.TemporaryDirectory() as folder:
        train(learner, steps, config=config.training, checkpoints=Path(folder), progress=clock)
    return float(np.median(np.diff(ends)[1:-1]))
