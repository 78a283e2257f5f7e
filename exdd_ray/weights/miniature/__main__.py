"""`python -m exdd_ray.weights.miniature --minutes 120 --out DIR`: draws, trains, writes."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.progress import Advance
from exdd_ray.weights.miniature.autoencoder import (
    AutoencoderRecipe,
    StepState,
    latent_moments,
    standardize_latents,
    to_tensor,
    train_autoencoder,
)
from exdd_ray.weights.miniature.colour_path import open_colour_path
from exdd_ray.weights.miniature.denoiser import DenoiserRecipe, DenoiserTrainer
from exdd_ray.weights.miniature.latents import encode_samples
from exdd_ray.weights.miniature.networks import (
    Parts,
    load_model,
    make_autoencoder,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    save_model,
)
from exdd_ray.weights.miniature.training_samples import Samples, SampleSpec, draw_samples

AUTOENCODER_SHARE = 0.2
TIMED_STEPS = 4
SAVE_EVERY_S = 600.0


def main() -> int:
    """Exit code 0, or 2 with one line on stderr for a mistake in the options."""
    options = _parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    try:
        with Progress(BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()) as bar:
            _train(options, bar)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB")
    return 0


def _parse() -> argparse.Namespace:
    spec = SampleSpec()
    parser = argparse.ArgumentParser(prog="python -m exdd_ray.weights.miniature", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0, help="training time, without drawing the samples")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model to write")
    parser.add_argument("--start", type=Path, help="model folder to train further; its autoencoder stays as it is")
    parser.add_argument("--seed", type=int, default=spec.seed)
    parser.add_argument("--threads", type=int, default=2, help="threads of each operation")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw the samples")
    parser.add_argument("--samples", type=int, default=spec.count, help="samples drawn")
    parser.add_argument("--pool", type=Path, help=".npz file that keeps the drawn samples for another run")
    return parser.parse_args()


def _train(options: argparse.Namespace, bar: Progress) -> None:
    if options.minutes <= 0:
        raise ConfigError("--minutes: the training needs more than no time")
    samples = _samples(options, bar)
    minutes = options.minutes
    if options.start is None:
        tokenizer, vae = make_tokenizer(), make_autoencoder()
        _train_autoencoder(vae, samples.images, options.seed, minutes * AUTOENCODER_SHARE, bar)
        minutes *= 1 - AUTOENCODER_SHARE
        parts = Parts(tokenizer, make_text_encoder(tokenizer), vae, make_unet())
    else:
        parts = _loaded(options.start)
    latents = encode_samples(parts.vae, samples, progress=partial(_show, bar))

    def trainer(parts: Parts) -> DenoiserTrainer:
        return DenoiserTrainer(parts, latents, DenoiserRecipe(seed=options.seed))

    steps = _steps_in(minutes, lambda: trainer(deepcopy(parts)).run(steps=TIMED_STEPS + 1))
    final = trainer(parts)
    saved = time.monotonic()
    for state in _shown(final.run(steps=steps), "denoiser", steps, bar):
        if time.monotonic() - saved > SAVE_EVERY_S or state.step == steps:
            saved = time.monotonic()
            save_model(final.averaged(), options.out)


def _loaded(folder: Path) -> Parts:
    if not (folder / "model_index.json").is_file():
        raise ConfigError(f"--start: {folder} has no model_index.json")
    pipeline = load_model(folder)
    return Parts(pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, pipeline.unet)


def _train_autoencoder(vae: Any, images: NDArray[np.uint8], seed: int, minutes: float, bar: Progress) -> None:
    open_colour_path(vae, to_tensor(images[:64]))
    train = partial(train_autoencoder, images=images, recipe=AutoencoderRecipe(seed=seed))
    steps = _steps_in(minutes, partial(train, deepcopy(vae), steps=TIMED_STEPS + 1))
    for _ in _shown(train(vae, steps=steps), "autoencoder", steps, bar):
        pass
    standardize_latents(vae, *latent_moments(vae, images[:1024]))


def _samples(options: argparse.Namespace, bar: Progress) -> Samples:
    """The pool's samples, drawn and kept if there is no such file yet."""
    if options.pool is not None and options.pool.is_file():
        with np.load(options.pool) as arrays:
            return Samples(**{field.name: arrays[field.name] for field in fields(Samples)})
    spec = SampleSpec(count=options.samples, seed=options.seed)
    samples = draw_samples(spec, workers=options.workers, progress=partial(_show, bar))
    if options.pool is not None:
        np.savez(options.pool, **{field.name: getattr(samples, field.name) for field in fields(Samples)})
    return samples


def _steps_in(minutes: float, run: Callable[[], Iterator[StepState]]) -> int:
    """How many steps fit into the time, from a few of them; the first, which warms up, is not counted."""
    states = run()
    next(states)
    begin = time.monotonic()
    for _ in islice(states, TIMED_STEPS):
        pass
    return max(int(60 * minutes * TIMED_STEPS / (time.monotonic() - begin)), 1)


def _shown(states: Iterator[StepState], label: str, steps: int, bar: Progress) -> Iterator[StepState]:
    task = bar.add_task(label, total=steps)
    losses: list[float] = []
    for state in states:
        losses.append(state.loss)
        bar.update(task, completed=state.step, description=f"{label}: step {state.step}, loss {state.loss:.4f}")
        if state.step % 100 == 0:
            bar.console.print(f"{label}: step {state.step} of {steps}, loss {np.mean(losses[-100:]):.4f}")
        yield state


@contextmanager
def _show(bar: Progress, label: str, total: int) -> Iterator[Advance]:
    task = bar.add_task(label, total=total)
    yield lambda steps: bar.advance(task, steps)


if __name__ == "__main__":
    sys.exit(main())
