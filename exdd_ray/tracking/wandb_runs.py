"""Runs in Weights & Biases: the mode that the environment asks for, and runs that hold nothing about the machine."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.extras import require
from exdd_ray.store.hashes import digest

_SIDE = 512
_TAG_LENGTH = 64
_ID_LENGTH = 24
Mode = Literal["online", "offline", "disabled"]


@dataclass(frozen=True)
class Place:
    """Where runs go.

    Attributes:
        project: of W&B; the entity is that of WANDB_ENTITY.
        group: that all of the runs are in.
        folder: under which the files of the runs lie.
    """

    project: str
    group: str
    folder: Path
    mode: Mode


def tracking_mode() -> Mode:
    """The mode that the environment asks for; offline, with a line to say so, where it has neither mode nor key.

    Raises ConfigError for an unknown one, or where wandb is not installed.
    """
    require("wandb", "tracking in W&B")
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("online", "offline", "disabled"):
        return cast(Mode, mode)
    if mode:
        raise ConfigError(f"WANDB_MODE={mode} is not online, offline or disabled")
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    print("wandb: no WANDB_API_KEY, so the runs stay offline; `wandb sync` uploads them", file=sys.stderr)
    return "offline"


@contextmanager
def wandb_session(place: Place) -> Iterator[None]:
    """What runs are started in.

    Raises:
        ConfigError: online without a key.
        UserError: wandb refuses the project, or its server does not answer.
    """
    import wandb

    offline = place.mode == "offline"
    try:
        if not offline and not wandb.login(prompt=False, verify=False):
            raise ConfigError("WANDB_MODE=online needs WANDB_API_KEY, or `wandb login` before")
        place.folder.mkdir(parents=True, exist_ok=True)
        with _images_inside(place.folder if offline else None):
            yield
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error


def start_run(
    place: Place,
    job_type: str,
    name: str,
    config: Mapping[str, Any],
    tags: Sequence[str] = (),
    notes: str = "",
    *,
    about: str,
) -> Any:
    """A `wandb.Run`, finished where the `with` that it is used in ends.

    Args:
        about: what it shows; in a group and job type that makes its id, so that to log it again makes no other run. One
            that an earlier call left offline is replaced.
    """
    import wandb

    identity = digest([place.project, place.group, job_type, about])[:_ID_LENGTH]
    for old in (place.folder / "wandb").glob(f"offline-run-*-{identity}"):
        shutil.rmtree(old)
    # Neither the terminal's output nor facts about the machine belong to what was made; listing the installed
    # packages would take ten times as long as the rest.
    settings = wandb.Settings(
        console="off",
        silent=place.mode == "offline",
        save_code=False,
        disable_git=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    return wandb.init(
        project=place.project,
        entity=os.environ.get("WANDB_ENTITY"),  # wandb itself reads it once a process
        dir=place.folder,
        mode=place.mode,
        group=place.group,
        job_type=job_type,
        name=name,
        notes=notes or None,
        tags=[tag[:_TAG_LENGTH] for tag in dict.fromkeys(tags) if tag],
        config=dict(config),
        settings=settings,
        reinit="create_new",
        id=identity,
        resume="allow" if place.mode == "online" else None,
    )


def address(run: Any) -> str:
    """Of a `wandb.Run`: its page, or its folder where it is offline."""
    return str(run.settings.sync_dir if run.offline else run.url)


def picture(image: np.ndarray, mask: np.ndarray | None = None, defect: str = "") -> Any:
    """A `wandb.Image` of at most _SIDE pixels on the longer side, with the mask bool [H x W] of a defect over it."""
    import wandb

    if mask is None:
        return wandb.Image(_small(image))
    overlay = {"mask_data": _small(mask.astype(np.uint8)), "class_labels": {1: defect}}
    return wandb.Image(_small(image), masks={"defect": overlay})


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
