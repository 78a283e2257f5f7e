"""Segmentation models of one's own: programs that `torch.export.save` wrote, for foregrounds and for masks of pairs.

A program, exported on the CPU, takes an image float32 [1 x 3 x H x W] of 0..1 (red, green, blue), as large as it comes,
and gives probabilities [1 x 1 x H x W] or [1 x H x W], no logits. It is code: take it from whom you trust.
"""

import io
import json
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.config.base import Frozen
from exdd_ray.errors import UserError, one_line
from exdd_ray.store.contents import content_digest
from exdd_ray.synthesizers.config import SegmentedConfig

_SAMPLE = "data/sample_inputs/model.pt"
_PLAIN = re.compile(  # what torch.export.save writes of a program of tensors; other objects in it would be pickles
    r"\.data/\w+|archive_format|archive_version|byteorder|extra/.+|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/(model_\w+_config\.json|(weight|tensor)_\d+)"
)


def segmenters(config: Frozen) -> tuple[str, ...]:
    """The files of segmentation models that a config and its groups name. Raises UserError where one is absent."""
    own = [config.model] if isinstance(config, SegmentedConfig) and config.model is not None else []
    for file in own:
        _digest_of(file)
    groups = [getattr(config, name) for name in type(config).model_fields]
    within = [file for group in groups if isinstance(group, Frozen) for file in segmenters(group)]
    return (*(str(file.expanduser()) for file in own), *within)


def segment(image: np.ndarray, file: Path) -> np.ndarray:
    """Where a model's probability is .5 or more: bool [H x W] of an image uint8 [H x W x 3].

    Raises UserError for a file that is absent or no such program, or that gives no probabilities of the image's size.
    """
    import torch

    program, (height, width, _) = _program(file, _digest_of(file)), image.shape
    given = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / 255)
    try:
        with torch.no_grad():
            found = program(given)
    except Exception as error:  # whatever a program raises, as for a size that it was not exported for
        raise UserError(f"{file}: cannot segment an image of {height} x {width}: {one_line(error)}") from error
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in ((1, 1, height, width), (1, height, width)):
        what = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"{file}: gives {what}, not a probability for each pixel, (1, 1, {height}, {width})")
    levels = found.float().reshape(height, width).numpy()
    if not ((levels >= 0) & (levels <= 1)).all():  # nor NaN
        raise UserError(f"{file}: gives values that are no probabilities (of 0..1): end the program with a sigmoid")
    return np.asarray(levels >= 0.5)


def _digest_of(file: Path) -> str:
    try:
        return content_digest(file.expanduser())
    except OSError as error:
        raise UserError(f"{file}: a segmentation model that cannot be read: {error.strerror}") from None


@lru_cache(maxsize=4)
def _program(file: Path, _digest: str) -> Any:
    """The program of a file with that digest. Raises UserError for a file that holds something else."""
    import torch

    try:
        data = file.expanduser().read_bytes()
        _refuse_pickles(data)
        return torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # of zip files, JSON, and what torch makes of them
        raise UserError(f"{file}: not a program that torch.export.save wrote: {one_line(error)}") from error


def _refuse_pickles(data: bytes) -> None:
    """Raises UserError for an archive with anything that torch.export.load would unpickle, or run as it is."""
    import torch

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name, part in parts.items():
        listed = json.loads(part)["config"].values() if name.endswith("_config.json") else ()
        if not _PLAIN.fullmatch(name) or any(tensor["use_pickle"] for tensor in listed):
            raise UserError(f"it holds {name}, which is not of a program of tensors alone")
    torch.load(io.BytesIO(parts[_SAMPLE]), weights_only=True)
