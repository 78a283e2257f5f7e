"""From decoded pixels to what a network sees, in training and on the line alike."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width
Channels = tuple[float, float, float]


class Placing(Protocol):
    """How an image is laid under the network's input.

    Attributes:
        resize: (height, width), or one number for the shorter side.
        fit: `stretch` to these proportions, or `cut` longer sides centrally first.
        crop: (height, width) of a central crop after the resize; None for none.
    """

    @property
    def resize(self) -> int | Size:
        """See above."""

    @property
    def fit(self) -> Literal["stretch", "cut"]:
        """See above."""

    @property
    def crop(self) -> Size | None:
        """See above."""


@dataclass(frozen=True)
class Geometry:
    """All that `prepare` needs.

    Attributes:
        resize, fit, crop: as in Placing.
        working_size: (height, width) to which images are brought first (bilinear, not antialiased); None keeps theirs.
        mean, std: of the channels, of pixels in 0..1.
    """

    resize: int | Size
    fit: Literal["stretch", "cut"]
    crop: Size | None
    working_size: Size | None
    mean: Channels
    std: Channels


def prepare(image: np.ndarray, placing: Placing, mean: Channels, std: Channels) -> np.ndarray:
    """Cut to the proportions of `resize` or not, resized (bilinear, antialiased), cropped, and normalised.

    From uint8 [H x W x 3] to float32 [3 x h x w].
    """
    image = cut(image, placing)
    height, width = resized(image.shape[:2], placing.resize)
    scaled = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    planes = np.array(central(scaled, placing.crop).transpose(2, 0, 1), dtype=np.float32, order="C")
    planes /= np.float32(255)
    planes -= np.array(mean, dtype=np.float32)[:, None, None]
    planes /= np.array(std, dtype=np.float32)[:, None, None]
    return planes


def cut_size(size: Size, placing: Placing) -> Size:
    """(height, width) of the part of an image of some size that is resized: all of it, or what `fit=cut` leaves."""
    if placing.fit == "stretch" or isinstance(placing.resize, int):
        return size
    (height, width), (tall, wide) = size, placing.resize
    if height * wide > tall * width:
        return max(1, round(width * tall / wide)), width
    return height, max(1, round(height * wide / tall))


def cut(image: np.ndarray, placing: Placing) -> np.ndarray:
    """The part of an image that is resized."""
    height, width = image.shape[:2]
    return np.ascontiguousarray(central(image, cut_size((height, width), placing)))


def resized(size: tuple[int, ...], target: int | Size) -> Size:
    """(height, width) after the resize; one number is the shorter side, the longer one is truncated (torchvision)."""
    if not isinstance(target, int):
        return target
    height, width = size
    if height <= width:
        return target, int(target * width / height)
    return int(target * height / width), target


def central(image: np.ndarray, crop: Size | None) -> np.ndarray:
    """The middle of an image, of a size; all of it for None."""
    if crop is None:
        return image
    top, left = (round((have - want) / 2) for have, want in zip(image.shape, crop, strict=False))
    return image[top : top + crop[0], left : left + crop[1]]
