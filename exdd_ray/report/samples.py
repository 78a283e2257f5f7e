"""Pictures of a synthetic sample: background, mask, result, and the defect from close by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ArtifactError
from exdd_ray.metrics.quality.pictures import defect_square
from exdd_ray.report.gallery import data_uri, outline
from exdd_ray.synthesizers.synthesize import SyntheticSample

_SIDE = 240
_ENCODINGS = ((_SIDE, 85), (_SIDE, 60), (160, 50), (110, 40))  # longer side in pixels, WebP quality
_CONTEXT = 0.6
_NOTHING = 127  # grey, of the background where there is none
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Pictures:
    """A sample at the size of the page, and its outlined region once more as it is in the files.

    Attributes:
        outline: SVG path around the mask in a drawing of the background's thumbnail.
        zoomed: the region (x, y, width, height) in the same drawing.
        zoom_side: longer side of the region in pixels of the sample.
        share: of the sample that the mask covers.
        resized: (width, height) of the background's file where that is not the sample's size.
    """

    background: Image.Image
    result: Image.Image
    zoom_background: Image.Image
    zoom_result: Image.Image
    outline: str
    zoomed: tuple[float, float, float, float]
    zoom_side: int
    share: float
    resized: tuple[int, int] | None


@dataclass(frozen=True)
class Row:
    """A sample on the sheet; `uris` are of background, result, and both zoomed."""

    made: SyntheticSample
    pictures: Pictures
    uris: tuple[str, str, str, str]

    @property
    def source(self) -> str:
        """The background's file and the folder that it is in."""
        return "/".join(Path(self.made.background).parts[-2:])


def read_sample(made: SyntheticSample) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Background and result uint8 [H x W x 3], mask bool [H x W]; all of the result's size.

    A whole image has a grey background, and a mask of all of it.

    The last value is the (width, height) of the background's file where it was resized.

    Raises ImageError for a file that cannot be read, ArtifactError for a sample without a mask.
    """
    result, mask = read_pair(made.row)
    if made.row.mask is None and not made.background:  # painted from nothing, all of it
        return np.full_like(result, _NOTHING), result, np.ones(result.shape[:2], dtype=bool), None
    if mask is None or not mask.any():
        raise ArtifactError(f"{made.row.image}: a synthetic defect without a mask")
    background = read_image(made.background, made.bit_depth)
    if background.shape == result.shape:
        return background, result, mask, None
    height, width = result.shape[:2]
    small = Image.fromarray(background).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small), result, mask, (background.shape[1], background.shape[0])


def draw_sample(made: SyntheticSample) -> Pictures:
    """The pictures of a sample; zoomed is the largest region of its mask with its surroundings."""
    background, result, mask, resized = read_sample(made)
    x0, y0, x1, y1 = defect_square(_largest_region(mask), _CONTEXT)
    small = _thumbnail(background)
    across, up = small.width / mask.shape[1], small.height / mask.shape[0]
    return Pictures(
        background=small,
        result=_thumbnail(result),
        zoom_background=_thumbnail(background[y0:y1, x0:x1]),
        zoom_result=_thumbnail(result[y0:y1, x0:x1]),
        outline=outline(mask, (small.height, small.width)),
        zoomed=(round(x0 * across, 1), round(y0 * up, 1), round((x1 - x0) * across, 1), round((y1 - y0) * up, 1)),
        zoom_side=max(x1 - x0, y1 - y0),
        share=float(mask.mean()),
        resized=resized,
    )


def encode_sample(made: SyntheticSample, share: int) -> Row:
    """A sample drawn and encoded as well as its share of the page, in characters, allows."""
    pictures = draw_sample(made)
    images = (pictures.background, pictures.result, pictures.zoom_background, pictures.zoom_result)
    for side, quality in _ENCODINGS:
        first, second, third, fourth = (_encoded(image, side, quality) for image in images)
        if len(first + second + third + fourth + pictures.outline) <= share:
            break
    return Row(made, pictures, (first, second, third, fourth))


def _encoded(image: Image.Image, side: int, quality: int) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(small, "WEBP", quality=quality)


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return image


def _largest_region(mask: np.ndarray) -> np.ndarray:
    regions, _ = ndimage.label(mask, _EIGHT_CONNECTED)
    return np.asarray(regions == np.bincount(regions.ravel())[1:].argmax() + 1)
