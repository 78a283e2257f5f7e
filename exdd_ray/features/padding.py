"""Images that a transformer's patches do not divide are padded; patches that are mostly padding are left out again."""

import torch
import torch.nn.functional as F
from torch import Tensor

from exdd_ray.config.base import Size
from exdd_ray.features.aggregate import Patches


def padded(images: Tensor, size: Size) -> Tensor:
    """Images [B x 3 x H x W] with their last row and column repeated, up to a size, in channels-last memory."""
    height, width = images.shape[-2:]
    wider = images if (height, width) == size else F.pad(images, (0, size[1] - width, 0, size[0] - height), "replicate")
    return wider.contiguous(memory_format=torch.channels_last)


def without_padding(patches: Patches, size: Size, padded_size: Size) -> tuple[Patches, Size]:
    """The patches of a padded image that are at least half of pixels of its own, and the pixels that these cover.

    Args:
        size: (height, width) of the images before they were padded.
        padded_size: after it.
    """
    if padded_size == size:
        return patches, size
    sides = list(zip(patches.grid, size, padded_size, strict=True))
    rows, columns = (max(int(count * own / whole + 0.5), 1) for count, own, whole in sides)
    kept = patches.vectors.unflatten(1, patches.grid)[:, :rows, :columns].flatten(1, 2)
    height, width = (
        round(kept * whole / count) for kept, (count, _, whole) in zip((rows, columns), sides, strict=True)
    )
    return Patches(kept, (rows, columns), patches.widths), (height, width)
