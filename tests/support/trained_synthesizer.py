"""A synthesizer that trains something of its own for each prompt: a shade, which a prompt without any cannot have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.progress import Progress
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.draw import Blended, one_by_one
from exdd_ray.synthesizers.job import ChunkJob, Painted
from exdd_ray.synthesizers.synthesizer import Synthesizer, Training
from exdd_ray.training.config import TrainConfig

SHADES = {"dark": 20, "bright": 240}
FILE = "shade.txt"


class ShadedConfig(SynthesizerConfig):
    """Rectangles of a shade that is trained first."""

    kind: Literal["shaded"] = "shaded"
    preset: Literal["best"] = "best"
    prompts: tuple[str, ...] = tuple(SHADES)


def recipe(job: ChunkJob[ShadedConfig]) -> Recipe:
    """One for each prompt, whatever the chunk and the seed."""
    return Recipe("shade", 1, {"prompt": job.prompt})


def train(job: ChunkJob[ShadedConfig], store: Store, progress: Progress) -> None:
    """Writes the shade down."""
    if job.prompt not in SHADES:
        raise DataError("no such shade")

    def build(folder: Path) -> None:
        (folder / FILE).write_text(str(SHADES[job.prompt]))

    assert job.training is not None
    with progress("training", 1) as advance:
        store.make(job.training, build)
        advance(1)


def make(jobs: Sequence[ChunkJob[ShadedConfig]]) -> "Painted":
    """Samples whose masked pixels have what was trained."""
    shade = int(jobs[0].trained.file(FILE).read_text())

    def blend(_: ChunkJob[ShadedConfig], background: np.ndarray, rng: np.random.Generator) -> Blended:
        mask = np.zeros(background.shape[:2], dtype=bool)
        top, left = rng.integers(0, 20, 2)
        mask[top : top + 10, left : left + 10] = True
        return Blended(np.where(mask[..., None], np.uint8(shade), background), mask, "rectangle")

    return one_by_one(jobs, blend)


SYNTHESIZER = Synthesizer(
    config=ShadedConfig,
    version=1,
    make=make,
    prompts=lambda config: config.prompts,
    training=Training(
        recipe=recipe,
        config=lambda _: TrainConfig(),
        train=train,
        remarks=lambda job: (f"trained to {job.trained.file(FILE).read_text()}",),
    ),
)
