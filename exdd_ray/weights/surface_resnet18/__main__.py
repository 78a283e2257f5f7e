"""`python -m exdd_ray.weights.surface_resnet18 --minutes 40 --out PATH`: draw the images, train, write the weights."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from exdd_ray.errors import UserError
from exdd_ray.progress import Advance
from exdd_ray.weights.surface_resnet18.model import save_trunk
from exdd_ray.weights.surface_resnet18.pools import PoolSpec, build_pools
from exdd_ray.weights.surface_resnet18.train import Recipe, StepState, Trainer, trained_trunk

SAVE_EVERY_S = 240.0


def main() -> int:
    """Exit code 0, or 2 with one line on stderr for a mistake in the options."""
    options = _parse()
    torch.set_num_threads(options.threads)
    pool = PoolSpec(programs=options.programs, defective=options.defective, seed=options.seed)
    recipe = Recipe(textures=options.textures, defects=options.defects, rate=options.rate, seed=options.seed)
    try:
        _train(pool, recipe, options.minutes, options.out, options.workers)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse() -> argparse.Namespace:
    pool, recipe = PoolSpec(), Recipe()
    parser = argparse.ArgumentParser(prog="python -m exdd_ray.weights.surface_resnet18", description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0, help="training time, without drawing the images")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw the images")
    parser.add_argument("--programs", type=int, default=pool.programs, help="texture classes")
    parser.add_argument("--defective", type=int, default=pool.defective, help="images with defects")
    parser.add_argument("--textures", type=int, default=recipe.textures, help="mosaics a step")
    parser.add_argument("--defects", type=int, default=recipe.defects, help="defective crops a step")
    parser.add_argument("--rate", type=float, default=recipe.rate, help="highest learning rate")
    return parser.parse_args()


def _train(pool: PoolSpec, recipe: Recipe, minutes: float, out: Path, workers: int) -> None:
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns) as bar:
        trainer = Trainer(build_pools(pool, workers=workers, progress=partial(_show, bar)), recipe)
        task = bar.add_task("training", total=1.0)
        saved = time.monotonic()
        for state in trainer.run(seconds=60 * minutes):
            bar.update(task, completed=state.used, description=_line(state))
            if state.step % 100 == 0:
                bar.console.print(f"{100 * state.used:.0f} % {_line(state)}")
            if time.monotonic() - saved > SAVE_EVERY_S or state.used >= 1:
                saved = time.monotonic()
                save_trunk(trained_trunk(trainer), out, _metadata(pool, recipe, state.step, minutes * state.used))
                trainer.trunk.train().to(memory_format=torch.channels_last)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@contextmanager
def _show(bar: Progress, label: str, total: int) -> Iterator[Advance]:
    task = bar.add_task(label, total=total)
    yield lambda steps: bar.advance(task, steps)


def _line(state: StepState) -> str:
    losses = f"texture loss {state.texture_loss:.3f}, defect loss {state.defect_loss:.3f}"
    return f"step {state.step}, {losses}, {state.speed:.0f} images/s"


def _metadata(pool: PoolSpec, recipe: Recipe, steps: int, minutes: float) -> dict[str, str]:
    return {
        "arch": "resnet18",
        "layers": "conv1..layer3",
        "input": "RGB / 255, ImageNet mean and standard deviation",
        "images": "procedural only (exdd_ray.weights.surface_resnet18)",
        "pool": json.dumps(asdict(pool)),
        "recipe": json.dumps(asdict(recipe)),
        "steps": str(steps),
        "minutes": f"{minutes:.1f}",
    }


if __name__ == "__main__":
    sys.exit(main())
