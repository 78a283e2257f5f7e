import numpy as np
import pytest

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import DataError
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.synthesizers.cutpaste.config import CutPasteConfig
from exdd_ray.synthesizers.cutpaste.cutpaste import Piece, cut_paste, cut_patch, jitter_colours, turned_strip

SIZES = [(64, 64), (224, 632), (33, 50)]
BRIGHT = ForegroundConfig(kind="threshold", level=100)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def ramp(size):
    rows, columns = np.indices(size)
    return np.stack([2 * rows + columns, rows + 2 * columns, rows + columns], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("preset", ["patch", "scar", "both"])
@pytest.mark.parametrize("size", SIZES)
def test_only_the_pasted_pixels_change(preset, size):
    image = make_surface("leather", size, np.random.default_rng(0))
    config = CutPasteConfig(preset=preset)
    for seed in range(30):
        pasted, mask = cut_paste(image, config, np.random.default_rng(seed))
        assert 0 < mask.sum() < mask.size / 4
        np.testing.assert_array_equal(pasted[~mask], image[~mask])
        again, same_mask = cut_paste(image, config, np.random.default_rng(seed))
        np.testing.assert_array_equal(pasted, again)
        np.testing.assert_array_equal(mask, same_mask)


def test_patches_have_the_published_areas_and_aspects():
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    shapes = [cut_patch(image, np.random.default_rng(seed)).inside.shape for seed in range(400)]
    areas = np.array([height * width / 256**2 for height, width in shapes])
    aspects = np.array([width / height for height, width in shapes])
    assert 0.019 < areas.min() < 0.025
    assert 0.145 < areas.max() < 0.151
    assert 0.29 < aspects.min() < 0.35
    assert 3.0 < aspects.max() < 3.35
    assert 0.4 < (aspects < 1).mean() < 0.6


def test_a_patch_is_cut_from_the_image():
    image = ramp((60, 80))
    for seed in range(20):
        pixels = cut_patch(image, np.random.default_rng(seed)).pixels
        rows, columns = np.nonzero((image == pixels[0, 0]).all(axis=2))
        height, width = pixels.shape[:2]
        np.testing.assert_array_equal(pixels, image[rows[0] : rows[0] + height, columns[0] : columns[0] + width])


def test_a_strip_that_is_not_turned_is_a_crop():
    image = make_surface("wood", (40, 50), np.random.default_rng(0))
    strip = turned_strip(image, (9.5, 20.0), 10, 3, 0.0)
    np.testing.assert_array_equal(strip.pixels, image[5:15, 19:22])
    assert strip.inside.all()


def test_a_strip_turned_by_a_right_angle_is_the_crop_turned():
    image = make_surface("wood", (40, 50), np.random.default_rng(0))
    strip = turned_strip(image, (9.5, 20.0), 10, 3, np.pi / 2)
    assert any(np.array_equal(strip.pixels, np.rot90(image[5:15, 19:22], k)) for k in (1, 3))


def test_a_turned_strip_keeps_its_area_and_colours():
    image = ramp((60, 60))
    strip = turned_strip(image, (29.5, 29.5), 24, 6, np.deg2rad(30))
    assert abs(strip.inside.sum() - 24 * 6) < 15
    # a ramp is linear: its mean over the strip is its value at the centre
    np.testing.assert_allclose(strip.pixels[strip.inside].mean(axis=0), [88.5, 88.5, 59], atol=0.5)
    source = image[18:42, 27:33]
    assert source.min() <= strip.pixels.min()
    assert strip.pixels.max() <= source.max()


def test_scars_grow_with_the_image():
    config = CutPasteConfig(preset="scar")
    areas = {}
    for side in (256, 512):
        image = make_surface("leather", (side, side + 20), np.random.default_rng(0))
        areas[side] = [cut_paste(image, config, np.random.default_rng(seed))[1].sum() for seed in range(60)]
    assert 15 <= min(areas[256]) < 60
    assert 250 < max(areas[256]) <= 430
    assert np.mean(areas[512]) == pytest.approx(4 * np.mean(areas[256]), rel=0.1)


def test_colours_change_by_at_most_a_tenth():
    grey = Piece(np.full((8, 8, 3), 100, dtype=np.uint8), np.ones((8, 8), dtype=bool))
    levels = np.array([jitter_colours(grey, np.random.default_rng(seed)).pixels[0, 0] for seed in range(100)])
    assert 89 <= levels.min() < 92
    assert 108 < levels.max() <= 110


def test_both_makes_patches_and_scars():
    image = make_surface("leather", (128, 128), np.random.default_rng(0))
    shares = [
        cut_paste(image, CutPasteConfig(preset="both"), np.random.default_rng(seed))[1].mean() for seed in range(60)
    ]
    assert 15 < sum(share > 0.015 for share in shares) < 45


@pytest.mark.parametrize("preset", ["patch", "scar"])
def test_the_centre_lies_on_the_foreground(preset):
    image = np.full((100, 120, 3), 10, dtype=np.uint8)
    image[40:60, 30:90] = make_surface("ceramic", (40, 60), np.random.default_rng(0))[:20] | 128
    for seed in range(40):
        config = CutPasteConfig(preset=preset, foreground=BRIGHT)
        _, mask = cut_paste(image, config, np.random.default_rng(seed))
        top, bottom, left, right = box_of(mask)
        assert 39 <= (top + bottom) / 2 <= 61
        assert 29 <= (left + right) / 2 <= 91


def test_a_foreground_on_which_no_piece_can_be_centred_is_an_error():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[0, 0] = 255
    with pytest.raises(DataError, match="no place for a patch on the foreground"):
        cut_paste(image, CutPasteConfig(preset="patch", foreground=BRIGHT), np.random.default_rng(0))
