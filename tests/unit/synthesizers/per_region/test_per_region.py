import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import DataError
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.per_region.blend import blend_region
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.per_region.perlin import region_mask
from exdd_ray.synthesizers.per_region.sources import alter, structure, texture, texture_files

PRESETS = ("memseg", "diffusionad", "draem")
BRIGHT = ForegroundConfig(kind="threshold", level=100)


@pytest.fixture(scope="module")
def image():
    return make_surface("concrete", (64, 90), np.random.default_rng(1))


def test_foreground_is_where_the_luma_exceeds_the_level():
    colours = np.array([[[0, 255, 0], [0, 0, 255], [255, 0, 0], [100, 100, 100], [101, 101, 101]]], dtype=np.uint8)
    assert foreground(colours, BRIGHT).tolist() == [[True, False, False, False, True]]
    inverted = ForegroundConfig(kind="threshold", level=100, invert=True)
    assert foreground(colours, inverted).tolist() == [[False, True, True, True, False]]
    assert foreground(colours, ForegroundConfig()).all()


@pytest.mark.parametrize(("grey", "invert", "rule"), [(20, False, "above 100"), (200, True, "at most 100")])
def test_an_empty_foreground_is_an_error(grey, invert, rule):
    flat = np.full((5, 5, 3), grey, dtype=np.uint8)
    with pytest.raises(DataError, match=rule):
        foreground(flat, ForegroundConfig(kind="threshold", invert=invert))


def expected(image, preset, seed, folder):
    """The published formulas in float64, from the same draws."""
    rng = np.random.default_rng(seed)
    size = image.shape[:2]
    mask = region_mask(np.ones(size, dtype=bool), rng)
    textured = rng.random() < 0.5 or preset == "draem"
    source = texture(size, rng, texture_files(folder)) if textured else structure(image, rng)
    if preset == "draem" or (preset == "diffusionad" and textured):
        source = alter(source, rng)
    source, normal, m = source.astype(float), image.astype(float), mask[..., None].astype(float)
    if preset == "memseg":
        delta = rng.uniform(0.15, 1)
        return (1 - m) * normal + delta * m * source + (1 - delta) * m * normal, mask, textured
    beta = rng.uniform(0.2, 0.8) if preset == "diffusionad" else rng.uniform(0, 0.8)
    return (1 - m) * normal + (1 - beta) * m * source + beta * m * normal, mask, textured


@pytest.mark.parametrize("preset", PRESETS)
def test_the_blend_is_the_published_formula(preset, image, tmp_path):
    Image.fromarray(make_surface("wood", (50, 50), np.random.default_rng(2))).save(tmp_path / "wood.png")
    config = PerRegionConfig(preset=preset, textures=tmp_path)
    kinds = set()
    for seed in range(30):
        blended, mask = blend_region(image, config, np.random.default_rng(seed))
        oracle, oracle_mask, textured = expected(image, preset, seed, tmp_path)
        np.testing.assert_array_equal(mask, oracle_mask)
        assert np.abs(blended - oracle).max() <= 0.501
        np.testing.assert_array_equal(blended[~mask], image[~mask])
        kinds.add(textured)
    assert kinds == ({True} if preset == "draem" else {True, False})


def test_the_share_of_textures_is_the_presets_or_the_given_one(image, tmp_path):
    Image.fromarray(np.full((9, 9, 3), 255, dtype=np.uint8)).save(tmp_path / "white.png")
    black = np.zeros_like(image)
    config = PerRegionConfig(preset="memseg", textures=tmp_path, texture_share=1)
    for seed in range(20):
        blended, mask = blend_region(black, config, np.random.default_rng(seed))
        assert len(np.unique(blended[mask])) == 1
        assert blended[mask].min() >= round(0.15 * 255)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_region_stays_on_the_foreground(preset, image):
    part = np.full_like(image, 10)
    part[10:40, 20:70] = np.maximum(image[10:40, 20:70], 120)
    config = PerRegionConfig(preset=preset, foreground=BRIGHT)
    for seed in range(20):
        blended, mask = blend_region(part, config, np.random.default_rng(seed))
        assert mask.any()
        assert mask[10:40, 20:70].sum() == mask.sum()
        np.testing.assert_array_equal(blended[~mask], part[~mask])


def test_a_region_is_redrawn_until_it_meets_the_foreground():
    small = np.zeros((64, 64), dtype=bool)
    small[30:33, 30:33] = True
    masks = [region_mask(small, np.random.default_rng(seed)) for seed in range(20)]
    assert all(mask.any() and not mask[~small].any() for mask in masks)


def test_a_foreground_that_no_region_meets_is_an_error():
    corner = np.zeros((64, 64), dtype=bool)
    corner[0, 0] = True  # the turned noise leaves the corners empty
    with pytest.raises(DataError, match=r"no Perlin region met the foreground \(0.02% of the image\) in 500 tries"):
        region_mask(corner, np.random.default_rng(0))


def test_altered_textures_differ_from_the_plain_ones(image):
    changed = [not np.array_equal(alter(image, np.random.default_rng(seed)), image) for seed in range(10)]
    assert all(changed)
    np.testing.assert_array_equal(alter(image, np.random.default_rng(3)), alter(image, np.random.default_rng(3)))
