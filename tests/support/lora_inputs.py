"""A random model, images and a quick fine-tuning for the tests of DreamBooth-LoRA."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from inpaint_inputs import make_random_model
from synthesizer_inputs import make_images

from exdd_ray.config.base import merge
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import trained_for
from exdd_ray.synthesizers.fits import Fit, train_all, train_here
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.lora.config import LoraConfig
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import run_on_threads
from exdd_ray.synthesizers.synthesizer import Resources

TUNING = {
    "epochs": 3,
    "keep_every": 1,
    "repeats": 2,
    "learning_rate": 0.01,
    "rank": 2,
    "alpha": 4,
    "conv_rank": 1,
    "tokens": [{"word": "skt"}],
    "training": {"batch": 2},
}


def make_inputs(folder: Path) -> tuple[str, pa.Table, pa.Table]:
    """A model's folder, normal images and two defects."""
    make_random_model(folder / "model")
    return str(folder / "model"), *make_images(folder / "images")


def quick_config(model: str, learnt: Mapping[str, Any] | None = None, **given: Any) -> LoraConfig:
    """A config whose fine-tuning takes seconds."""
    settings = {"model": model, "count": 3, "steps": 2, "size": (32, 32), "filters": None, "run": {"batch": 4}}
    masks = {"source": "procedural"}
    return LoraConfig.model_validate({**settings, "masks": masks, "tuning": merge(TUNING, learnt or {}), **given})


def tuned(config: LoraConfig, normal: pa.Table, defects: pa.Table, store: Store, seed: int = 0) -> Artifact:
    """The artifact of a config's fine-tuning."""
    job = first_job(config, normal, defects, seed)
    tune_for(job, store)
    found = trained_for(job, store)
    assert found is not None
    return found


def tune_for(job: ChunkJob[Any], store: Store, progress: Progress = silent) -> None:
    """Trains what a chunk needs, in this process."""
    train_all([Fit("", job)], Resources(store, progress, run_on_threads), train_here)


def first_job(config: LoraConfig, normal: pa.Table, defects: pa.Table, seed: int = 0) -> ChunkJob[Any]:
    """Its first chunk."""
    return replace(plan_chunks(config, normal, defects, seed)[0])
