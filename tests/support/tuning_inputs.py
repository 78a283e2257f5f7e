"""A random model, images, and the training that a synthesizer does first, in this process; whole, or cut off."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from inpaint_inputs import make_random_model
from synthesizer_inputs import make_images

from exdd_ray.progress import Advance, Progress, silent
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import trained_for
from exdd_ray.synthesizers.fits import Fit, train_all, train_here
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.painting.config import DiffusionConfig
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import run_on_threads
from exdd_ray.synthesizers.synthesizer import Resources


def make_inputs(folder: Path) -> tuple[str, pa.Table, pa.Table]:
    """A model's folder, normal images and two defects."""
    make_random_model(folder / "model")
    return str(folder / "model"), *make_images(folder / "images")


def first_job(config: DiffusionConfig, normal: pa.Table, defects: pa.Table, seed: int = 0) -> ChunkJob[Any]:
    """The first chunk of a config."""
    return plan_chunks(config, normal, defects, seed)[0]


def tune_for(job: ChunkJob[Any], store: Store, progress: Progress = silent) -> None:
    """Trains what a chunk needs, in this process."""
    train_all([Fit("", job)], Resources(store, progress, run_on_threads), train_here)


def tuned(config: DiffusionConfig, normal: pa.Table, defects: pa.Table, store: Store, seed: int = 0) -> Artifact:
    """The artifact of a config's training."""
    job = first_job(config, normal, defects, seed)
    tune_for(job, store)
    found = trained_for(job, store)
    assert found is not None
    return found


def cut_off(step: int) -> Callable[[str, int], AbstractContextManager[Advance]]:
    """A progress that ends the training when so many steps are done."""

    @contextmanager
    def progress(_label: str, _total: int) -> Iterator[Advance]:
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if done == step:
                raise KeyboardInterrupt

        yield advance

    return progress
