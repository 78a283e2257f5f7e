from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import content_hash, image_size, read_image, resize_bilinear
from exdd_ray.data.masks import read_mask, read_pair
from exdd_ray.errors import ImageError

ROTATED = 6  # EXIF: the camera was held 90 degrees clockwise


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def row(image: str, mask: str | None = None, **fields: object) -> CatalogRow:
    values = {"id": "a", "dataset": "d", "category": "c", "split": "train", "label": 1, "defect": "dent", **fields}
    return CatalogRow(image=image, mask=mask, **values)


def test_rgb_and_grey(tmp_path: Path) -> None:
    pixels = noise(5, 7)
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)
    grey = read_image(save(tmp_path / "b.png", pixels[:, :, 0]))
    assert grey.shape == (5, 7, 3)
    assert all(np.array_equal(grey[:, :, c], pixels[:, :, 0]) for c in range(3))


def test_alpha_is_dropped_and_the_colour_under_it_kept(tmp_path: Path) -> None:
    pixels = np.dstack([noise(4, 4), np.zeros((4, 4), np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels[:, :, :3])


def test_palette_with_transparency_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    assert read_image(str(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (3, 2), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read_image(str(tmp_path / "a.tif"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 25700, 32768, 65535]], dtype=np.uint16)
    path = save(tmp_path / f"a.{suffix}", values)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 100, 128, 255]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.ones((3, 3), np.float32))
    with pytest.raises(ImageError, match="float"):
        read_image(path)
    with pytest.raises(ImageError, match="float"):
        read_mask(path, 0)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(4, 4, seed)) for seed in range(2)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="2 frames"):
        read_image(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_turns_image_mask_and_size_alike(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = ROTATED
    path = str(tmp_path / f"a.{suffix}")
    image.save(path, exif=exif)
    assert image_size(path) == (16, 8)
    turned = read_image(path)
    assert turned.shape == (16, 8, 3)
    assert turned[:7].max() < 64 < 192 < turned[9:].min()
    mask = read_mask(path, 127)
    assert not mask[:7].any()
    assert mask[9:].all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_truncated_file_is_an_image_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, noise(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"a\.\w+: "):
        read_image(str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_damaged_bytes_never_raise_anything_but_image_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, noise(16, 16))
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    reasons = []
    for _ in range(40):
        damaged = bytearray(intact)
        for position in rng.integers(0, len(intact), 4):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        for read in (read_image, image_size, lambda name: read_mask(name, 0)):
            try:
                read(str(path))
            except ImageError as error:
                reasons.append(error.reason)
    assert reasons
    assert not any("\n" in reason for reason in reasons)


def test_reasons_name_the_trouble(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("not an image")
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
            read(str(empty))
        with pytest.raises(ImageError, match=r"text\.png: not an image file"):
            read(str(text))
        with pytest.raises(ImageError, match="no such file"):
            read(str(tmp_path / "none.png"))
    with pytest.raises(ImageError, match="none"):
        content_hash(str(tmp_path / "none.png"))


def test_mask_threshold_is_exclusive(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 1, 127, 128, 255]], np.uint8))
    assert read_mask(path, 127).tolist() == [[False, False, False, True, True]]
    assert read_mask(path, 0).tolist() == [[False, True, True, True, True]]


def test_mask_below_its_threshold_says_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 3]], np.uint8))
    with pytest.raises(ImageError, match=r"largest value is 3, none is above 127: lower dataset.mask_threshold"):
        read_mask(path, 127)
    assert not read_mask(save(tmp_path / "z.png", np.zeros((2, 2), np.uint8)), 127).any()


def test_mask_kinds(tmp_path: Path) -> None:
    deep = save(tmp_path / "deep.png", np.array([[0, 300, 40000]], np.uint16))
    assert read_mask(deep, 299).tolist() == [[False, True, True]]
    palette = Image.new("P", (3, 1))
    palette.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])  # by index: all its colours are black
    palette.putdata([0, 1, 2])
    palette.save(tmp_path / "palette.png")
    assert read_mask(str(tmp_path / "palette.png"), 1).tolist() == [[False, False, True]]
    colour = save(tmp_path / "colour.png", np.array([[[0, 0, 0], [255, 0, 0], [0, 9, 0]]], np.uint8))
    assert read_mask(colour, 9).tolist() == [[False, True, False]]
    opaque = save(tmp_path / "opaque.png", np.array([[[0, 0, 0, 255], [255, 255, 255, 255]]], np.uint8))
    assert read_mask(opaque, 127).tolist() == [[False, True]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert read_mask(str(tmp_path / "bit.png"), 127).tolist() == [[True, False]]


@pytest.mark.parametrize(("low", "high"), [(0, 80), (0, 1), (0, 240), (100, 101), (0, 255)])
def test_a_mask_of_two_values_is_read_as_such(tmp_path: Path, low: int, high: int) -> None:
    path = save(tmp_path / "m.png", np.array([[low, high, low], [low, low, high]], np.uint8))
    assert read_mask(path, None).tolist() == [[False, True, False], [False, False, True]]


def test_a_mask_of_many_values_is_split_in_the_middle_of_its_range(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 80, 127, 128, 240]], np.uint8))
    assert read_mask(path, None).tolist() == [[False, False, False, True, True]]
    assert read_mask(path, 79).tolist() == [[False, True, True, True, True]]
    deep = save(tmp_path / "deep.png", np.array([[0, 300, 32768, 65535]], np.uint16))
    assert read_mask(deep, None).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colour", [255, 0])
def test_a_mask_in_the_alpha_of_one_colour(tmp_path: Path, mode: str, colour: int) -> None:
    image = Image.new("L", (3, 1), colour).convert(mode)
    alpha = Image.fromarray(np.array([[0, 255, 0]], np.uint8))
    image.putalpha(alpha)
    image.save(tmp_path / "m.png")
    assert read_mask(str(tmp_path / "m.png"), None).tolist() == [[False, True, False]]
    assert read_mask(str(tmp_path / "m.png"), 127).tolist() == [[False, True, False]]


@pytest.mark.parametrize("flip", [False, True])
def test_a_palette_mask_is_read_by_its_colours_whatever_their_order(tmp_path: Path, flip: bool) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 255, 255, 0, 0, 0] if flip else [0, 0, 0, 255, 255, 255])
    image.putdata([1, 0, 1] if flip else [0, 1, 0])
    image.save(tmp_path / "m.png")
    assert read_mask(str(tmp_path / "m.png"), None).tolist() == [[False, True, False]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_bit_depth_scales_grey_by_the_bits_in_use(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", np.array([[0, 16, 2048, 4095]], dtype=np.uint16))
    assert read_image(path, 12)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 8, 16]
    assert read_pair(row(path, bit_depth=12))[0][0, 3].tolist() == [255] * 3
    with pytest.raises(ImageError, match=r"4095 does not fit 11 bits \(dataset.bit_depth\)"):
        read_image(path, 11)
    assert read_image(save(tmp_path / "b.png", noise(4, 4)), 12).tolist() == noise(4, 4).tolist()


def test_pair_of_another_size_names_both(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "a.png", noise(4, 6)), save(tmp_path / "m.png", np.full((4, 5), 255, np.uint8))
    with pytest.raises(ImageError, match=r"m\.png: the mask is 5 x 4 .*a\.png is 6 x 4"):
        read_pair(row(image, mask))


def test_pair_is_cropped_to_its_region(tmp_path: Path) -> None:
    pixels = noise(6, 8)
    marks = np.zeros((6, 8), np.uint8)
    marks[3, 5] = 255
    image, mask = save(tmp_path / "a.png", pixels), save(tmp_path / "m.png", marks)
    crop, defect = read_pair(row(image, mask, region=(4, 2, 7, 5)))
    assert np.array_equal(crop, pixels[2:5, 4:7])
    assert defect is not None
    assert np.argwhere(defect).tolist() == [[1, 1]]
    assert read_pair(row(image))[1] is None
    with pytest.raises(ImageError, match="not inside"):
        read_pair(row(image, mask, region=(4, 2, 9, 5)))


def test_working_size_comes_before_the_region(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "a.png", noise(4, 4)), save(tmp_path / "m.png", np.full((4, 4), 255, np.uint8))
    crop, defect = read_pair(row(image, mask, region=(10, 0, 16, 3)), working_size=(8, 16))
    assert crop.shape == (3, 6, 3)
    assert defect is not None
    assert defect.shape == (3, 6)


def test_resize_bilinear_known_values() -> None:
    # Pixel centres at halves: doubling [0, 100] samples at -0.25, 0.25, 0.75, 1.25, clamped to the edge.
    assert resize_bilinear(np.array([[0, 100]], np.uint8), (1, 4)).tolist() == [[0, 25, 75, 100]]
    # A reduction by 4 without smoothing sees only the two middle pixels.
    assert resize_bilinear(np.array([[200, 0, 10, 200]], np.uint8), (1, 1)).tolist() == [[5]]


def test_content_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"tile")
    (tmp_path / "b").write_bytes(b"tile")
    (tmp_path / "c").write_bytes(b"tilf")
    hashes = [content_hash(str(tmp_path / name)) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 32
