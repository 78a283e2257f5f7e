"""Synthetic defects in Weights & Biases: a run for each set, its samples as a table of images."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.report.contact_sheet import SynthesisSet, count_samples
from exdd_ray.report.samples import read_sample
from exdd_ray.report.strips import prompts_of
from exdd_ray.synthesis.synthesize import Made

MAX_EACH = 50
COLUMNS = ("sample", "prompt", "seed", "background", "mask", "result")
TABLE = "samples"
_SIDE = 512
_TAG_LENGTH = 64
Mode = Literal["online", "offline", "disabled"]


def log_synthesis(
    project: str, name: str, sets: Sequence[SynthesisSet], folder: Path, mode: Mode | None = None
) -> tuple[str, ...]:
    """Log each set as a run of `project`, all in the group `name`.

    A run holds the first MAX_EACH samples of each prompt as a table, the counts and quality figures as its summary, and
    the resolved config. The entity is that of WANDB_ENTITY. Without WANDB_API_KEY and WANDB_MODE the runs stay offline:
    all of their files, images included, lie in `folder`/wandb. A `mode` of None is tracking_mode's.

    Returns:
        Each run's address, or its folder where it is offline: wandb's own process may still be writing there until this
        one ends. Nothing with WANDB_MODE=disabled.

    Raises:
        ConfigError: an unknown WANDB_MODE, or online without a key.
        UserError: wandb refuses the project, or its server does not answer.
    """
    import wandb

    mode = mode or tracking_mode()
    if mode == "disabled":
        return ()
    try:
        if mode != "offline" and not wandb.login(prompt=False, verify=False):
            raise ConfigError("WANDB_MODE=online needs WANDB_API_KEY, or `wandb login` before")
        folder.mkdir(parents=True, exist_ok=True)
        with _images_inside(folder if mode == "offline" else None):
            return tuple(_log_set(project, name, entry, folder, mode) for entry in sets)
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error


def tracking_mode() -> Mode:
    """The mode that the environment asks for; offline, with a line to say so, where it has neither mode nor key.

    Raises ConfigError for an unknown one.
    """
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("online", "offline", "disabled"):
        return cast(Mode, mode)
    if mode:
        raise ConfigError(f"WANDB_MODE={mode} is not online, offline or disabled")
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    print("wandb: no WANDB_API_KEY, so the runs stay offline; `wandb sync` uploads them", file=sys.stderr)
    return "offline"


def summary_of(entry: SynthesisSet) -> dict[str, float]:
    """Counts, of each prompt too; pace; quality figures by their names."""
    counts = count_samples(entry)
    found: dict[str, float] = {
        "asked": sum(count.asked for count in counts),
        "kept": sum(count.kept for count in counts),
        "dropped": sum(count.dropped for count in counts),
    }
    found |= {f"kept/{count.prompt}": count.kept for count in counts if count.prompt}
    found |= {f"dropped/{reason}": count for reason, count in entry.synthesis.dropped.items()}
    if entry.timing is not None:
        found["images_per_second"] = entry.timing.rate
    if entry.quality is not None:
        found |= {f"quality/{figure.name}": figure.value for figure in entry.quality.figures}
    return found


def _log_set(project: str, group: str, entry: SynthesisSet, folder: Path, mode: Mode) -> str:
    import wandb

    # Neither the terminal's output nor facts about the machine belong to what a synthesizer made.
    settings = wandb.Settings(
        console="off",
        silent=mode == "offline",
        save_code=False,
        disable_git=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    with (
        wandb.init(
            project=project,
            entity=os.environ.get("WANDB_ENTITY"),  # wandb itself reads it once a process
            dir=folder,
            mode=mode,
            group=group,
            job_type="synthesis",
            name=entry.title,
            notes="\n".join(entry.remarks) or None,
            tags=[tag[:_TAG_LENGTH] for tag in dict.fromkeys((entry.dataset, entry.category)) if tag],
            config=_config(entry),
            settings=settings,
            reinit="create_new",
        ) as run
    ):
        shown = _first_of_each(entry)
        run.log({TABLE: wandb.Table(columns=list(COLUMNS), data=[_table_row(made) for made in shown])})
        run.summary.update({**summary_of(entry), "shown": len(shown)})
        return str(run.settings.sync_dir if mode == "offline" else run.url)


def _config(entry: SynthesisSet) -> dict[str, Any]:
    about = {"trial": entry.trial, "dataset": entry.dataset, "category": entry.category, "seed": entry.seed}
    return {**about, "synthesizer": entry.config.model_dump(mode="json")}


def _first_of_each(entry: SynthesisSet) -> list[Made]:
    by_prompt = ([made for made in entry.synthesis.samples if made.prompt == p] for p in prompts_of(entry.config))
    return [made for group in by_prompt for made in group[:MAX_EACH]]


def _table_row(made: Made) -> list[Any]:
    import wandb

    background, result, mask, _ = read_sample(made)
    overlay = {"defect": {"mask_data": _small(mask.astype(np.uint8)), "class_labels": {1: made.row.defect}}}
    # 56 bits do not fit the numbers of JSON.
    return [
        made.row.id,
        made.prompt,
        str(made.seed),
        wandb.Image(_small(background)),
        wandb.Image(_small(background), masks=overlay),
        wandb.Image(_small(result)),
    ]


def _small(pixels: np.ndarray) -> np.ndarray:
    """At most _SIDE pixels on the longer side; a mask keeps its values."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.LANCZOS)
    return np.asarray(image)


@contextmanager
def _images_inside(folder: Path | None) -> Iterator[None]:
    """Wandb keeps the images of tables in the user's home until they are uploaded; here they stay with the run."""
    if folder is None or "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.resolve() / "wandb" / "data")
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
