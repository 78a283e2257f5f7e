import numpy as np
import pytest
from PIL import Image

from exdd_ray.config.synthesis import PerRegionConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image, read_mask
from exdd_ray.errors import DataError
from exdd_ray.procedural.surfaces import make_surface
from exdd_ray.store.artifact import Store
from exdd_ray.synthesis.per_region import blend_region
from exdd_ray.synthesis.perlin import perlin_mask
from exdd_ray.synthesis.sources import ALTERATIONS, structure, texture
from exdd_ray.synthesis.synthesize import synthesize


@pytest.fixture(scope="module")
def image():
    return make_surface("leather", (96, 130), np.random.default_rng(0))


@pytest.fixture
def normal(tmp_path):
    rows = []
    for i in range(4):
        path = tmp_path / f"{i}.png"
        Image.fromarray(make_surface("wood", (64, 80), np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(id=path.name, dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
        )
    return build_catalog(rows)


def test_masks_are_neither_empty_nor_full_and_vary():
    masks = [perlin_mask((64, 96), np.random.default_rng(i)) for i in range(60)]
    shares = np.array([mask.mean() for mask in masks])
    assert masks[0].shape == (64, 96)
    assert np.all((shares > 0) & (shares < 1))
    assert shares.std() > 0.02


def test_structure_keeps_the_shape(image):
    for seed in range(20):
        shuffled = structure(image, np.random.default_rng(seed))
        assert shuffled.shape == image.shape
        assert not np.array_equal(shuffled, image)


@pytest.mark.parametrize("number", range(len(ALTERATIONS)))
def test_each_alteration_gives_an_rgb_image(image, number):
    altered = [np.asarray(ALTERATIONS[number](Image.fromarray(image), np.random.default_rng(i))) for i in range(4)]
    assert all(a.shape == image.shape and a.dtype == np.uint8 for a in altered)
    assert any(not np.array_equal(a, image) for a in altered)


@pytest.mark.parametrize(("preset", "low", "high"), [("memseg", 0.15, 1.0), ("diffusionad", 0.2, 0.8)])
def test_only_the_mask_changes_and_by_the_published_strength(preset, low, high, tmp_path):
    Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).save(tmp_path / "white.png")
    config = PerRegionConfig(preset=preset, textures=tmp_path)
    black = np.zeros((96, 130, 3), dtype=np.uint8)
    strengths = []
    for seed in range(80):
        blended, mask = blend_region(black, config, np.random.default_rng(seed))
        assert not blended[~mask].any()
        levels = np.unique(blended[mask])
        if len(levels) == 1:  # the white texture; an altered black image may have several levels
            strengths.append(levels[0] / 255)
    strengths = np.array([s for s in strengths if s > 0.13])  # a brightened black reaches 0.12
    assert len(strengths) > 20
    assert low - 0.01 <= strengths.min() < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < strengths.max() <= high + 0.01


def test_textures_come_from_the_folder(tmp_path, image):
    folder = tmp_path / "textures" / "striped"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((10, 10, 3), 77, dtype=np.uint8)).save(folder / "a.jpg")
    assert np.all(np.abs(texture((20, 30), np.random.default_rng(0), tmp_path / "textures").astype(int) - 77) <= 1)
    with pytest.raises(DataError, match="no texture image"):
        texture((20, 30), np.random.default_rng(0), tmp_path / "textures" / "none")


def made(config, normal, seed, store):
    return synthesize(config, normal, normal.slice(0, 0), seed, store).catalog


def test_fewer_samples_are_a_prefix_of_more_and_only_the_missing_are_made(normal, tmp_path):
    few = made(PerRegionConfig(count=10), normal, 3, Store(tmp_path / "a"))
    store = Store(tmp_path / "a")
    many = made(PerRegionConfig(count=60), normal, 3, store)
    fresh = made(PerRegionConfig(count=60), normal, 3, Store(tmp_path / "b"))
    assert (few.num_rows, many.num_rows, len(store.made)) == (10, 60, 5)
    for one, other in zip(catalog_rows(many), catalog_rows(fresh), strict=True):
        assert (one.id, one.origin) == (other.id, other.origin)
        np.testing.assert_array_equal(read_image(one.image), read_image(other.image))
    assert catalog_rows(few) == catalog_rows(many)[:10]
    other_seed = made(PerRegionConfig(count=10), normal, 4, Store(tmp_path / "a"))
    assert not np.array_equal(read_image(few["image"][0].as_py()), read_image(other_seed["image"][0].as_py()))


def test_saved_masks_are_exact(normal, tmp_path):
    originals = [read_image(path) for path in normal["image"].to_pylist()]
    for row in catalog_rows(made(PerRegionConfig(count=5), normal, 0, Store(tmp_path / "s"))):
        mask = read_mask(row.mask, row.mask_threshold)
        assert any(np.array_equal(read_image(row.image)[~mask], original[~mask]) for original in originals)


def test_no_background_is_an_error(normal, tmp_path):
    with pytest.raises(DataError, match="no normal image"):
        made(PerRegionConfig(count=5), normal.slice(0, 0), 0, Store(tmp_path / "s"))
