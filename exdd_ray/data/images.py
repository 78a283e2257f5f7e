"""Image and mask files to arrays. What cannot be read raises ImageError with a reason, never a guess."""

import errno
import hashlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from exdd_ray.errors import ImageError, UserError

_SIXTEEN_BIT = 65535
_TURNED = {5, 6, 7, 8}  # EXIF orientations that exchange width and height


def read_image(path: str, bit_depth: int | None = None) -> np.ndarray:
    """RGB pixels of an image file, turned as its EXIF orientation says.

    16-bit grey is scaled by its range (65535 becomes 255). An alpha channel is dropped, not composited: the colour
    stored under it stays. Palette, CMYK and one-bit files are converted.

    Args:
        path: of the image file.
        bit_depth: of the grey values in a 16-bit file: 12 scales 4095 to 255. None is all 16. Other files do not ask.

    Returns:
        uint8 [H x W x 3].

    Raises:
        ImageError: unreadable, truncated or empty file; float pixels (their range is unknown); several frames; a value
            that does not fit the bit depth, or 16-bit colour where one is given.
    """
    image = decode(path)
    if image.mode == "F":
        raise ImageError(path, "float pixels have no known range: convert the file to 8 or 16 bits")
    if image.mode.startswith("I"):
        return np.repeat(_eight_bit(path, sixteen_bit(path, image), bit_depth)[:, :, None], 3, axis=2)
    if bit_depth is not None and deep_colour(path):
        raise ImageError(path, "16-bit colour is read by its upper 8 bits, whatever dataset.bit_depth says: convert it")
    image.info.pop("transparency", None)
    try:
        return np.array(image.convert("RGB"), dtype=np.uint8)
    except ValueError as error:
        raise ImageError(path, f"colour mode {image.mode} cannot be converted to RGB") from error


def resize_bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize with pixel centres at halves and no smoothing before a reduction (OpenCV's INTER_LINEAR).

    Args:
        pixels: integer array [H x W] or [H x W x C].
        size: (height, width).

    Returns:
        The resized array, of the same type, rounded to the nearest integer.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    from scipy import ndimage

    factors = (size[0] / pixels.shape[0], size[1] / pixels.shape[1]) + (1.0,) * (pixels.ndim - 2)
    resized = ndimage.zoom(pixels.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
    return np.asarray(np.rint(resized).astype(pixels.dtype))


def image_size(path: str) -> tuple[int, int]:
    """(height, width) of an image file as decoded, from its header only. Raises ImageError where that is unreadable."""
    try:
        with Image.open(path) as image:
            # The base class's method: that of PNG decodes all pixels to look for metadata behind them.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
            # Pillow gives the size of a TIFF file as turned already.
            turned = orientation in _TURNED and image.format != "TIFF"
            width, height = image.size
    except Exception as error:
        raise ImageError(path, _reason(path, error)) from error
    return (width, height) if turned else (height, width)


def deep_colour(path: str) -> bool:
    """Whether a file holds colour of 16 bits a channel, of which only the upper 8 can be read."""
    with Image.open(path) as image:
        return image.mode.startswith("RGB") and any(";16" in str(tile[3]) for tile in image.tile)


def content_hash(path: str) -> str:
    """BLAKE2b of a file's bytes, 16 bytes as hexadecimal digits. Raises ImageError for an unreadable file."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise ImageError(path, _reason(path, error)) from error


def decode(path: str) -> Image.Image:
    """A file as Pillow decodes it, turned upright. Raises ImageError for what it cannot, or several pictures in one."""
    try:
        with Image.open(path) as image:
            # A camera's MPO file is a photograph with a preview behind it.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if frames > 1:
                raise ImageError(path, f"{frames} frames in one file: store one image a file")
            image.load()
            return ImageOps.exif_transpose(image)
    except ImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly every type on damaged bytes
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.EISDIR, errno.EACCES):
            raise UserError(f"{path}: {error.strerror}") from error  # the machine's fault, not the image's
        raise ImageError(path, _reason(path, error)) from error


def _reason(path: str, error: Exception) -> str:
    file = Path(path)
    if not file.exists():
        return "no such file"
    if file.is_file() and file.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file, or damaged at its start"
    return " ".join(str(error).split()) or type(error).__name__


def sixteen_bit(path: str, image: Image.Image) -> np.ndarray:
    """Values [H x W] of a 16-bit grey image as int32; Pillow opens some of them in its 32-bit mode.

    Raises ImageError for values that do not fit 16 bits.
    """
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > _SIXTEEN_BIT):
        raise ImageError(path, f"grey values {values.min()} to {values.max()} do not fit 16 bits")
    return values.astype(np.int32)


def _eight_bit(path: str, grey: np.ndarray, bit_depth: int | None) -> np.ndarray:
    """Grey values of a bit depth scaled to 0-255, rounded to the nearest integer."""
    full = _SIXTEEN_BIT if bit_depth is None else 2**bit_depth - 1
    if grey.size and grey.max() > full:
        raise ImageError(path, f"the grey value {grey.max()} does not fit {bit_depth} bits (dataset.bit_depth)")
    return np.asarray((grey * 255 + full // 2) // full, dtype=np.uint8)


def brightness(image: Image.Image) -> np.ndarray:
    """The grey level, or the largest colour channel, uint8 [H x W]."""
    if image.mode in {"L", "1", "LA"}:
        return np.asarray(image.convert("L"))
    return np.asarray(np.asarray(image.convert("RGB")).max(axis=2))
