from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_mask
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import DataError, UserError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.chunk import make_chunks
from exdd_ray.synthesizers.per_region.blend import blend_region
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.per_region.perlin import perlin_mask
from exdd_ray.synthesizers.per_region.sources import ALTERATIONS, structure, texture, texture_files
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import run_on_threads, synthesize


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


def perlin_by_the_pixel(side, cells, rng):
    """DRAEM's noise as its text says: unit gradients on a lattice, faded and joined, times the root of 2."""
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    field = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * cells[0] / side, j * cells[1] / side
            (row, dy), (column, dx) = divmod(y, 1), divmod(x, 1)
            fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (dy, dx))
            for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
                angle = angles[int(row) + a, int(column) + b]
                slope = np.cos(angle) * (dx - b) + np.sin(angle) * (dy - a)
                field[i, j] += slope * (fade_y if a else 1 - fade_y) * (fade_x if b else 1 - fade_x)
    return np.sqrt(2) * field


@pytest.mark.parametrize("cells", [(1, 1), (2, 4)])
def test_masks_have_the_areas_of_the_published_recipe(cells):
    side, count, draws = 32, 150, np.random.default_rng(5)
    areas = np.array([perlin_mask((side, side), cells, np.random.default_rng(i)).mean() for i in range(count)])
    wanted = []
    for _ in range(count):
        noise = Image.fromarray(perlin_by_the_pixel(side, cells, draws).astype(np.float32))
        wanted.append((np.asarray(noise.rotate(draws.uniform(-90, 90), Image.Resampling.BILINEAR)) > 0.5).mean())
    wanted = np.array(wanted)
    error = np.hypot(areas.std(), wanted.std()) / np.sqrt(count)
    assert abs(areas.mean() - wanted.mean()) < 4 * error
    assert 0.02 < wanted.mean() < 0.08
    assert abs((areas == 0).mean() - (wanted == 0).mean()) < 0.2


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


@pytest.mark.parametrize(
    ("preset", "low", "high"), [("memseg", 0.15, 1.0), ("diffusionad", 0.2, 0.8), ("draem", 0.2, 1.0)]
)
def test_only_the_mask_changes_and_by_the_published_strength(preset, low, high, tmp_path):
    Image.fromarray(make_surface("wood", (40, 40), np.random.default_rng(1))).save(tmp_path / "wood.png")
    config = PerRegionConfig(preset=preset, textures=tmp_path, texture_share=1)
    black = np.zeros((48, 64, 3), dtype=np.uint8)
    strengths = []
    for seed in range(80):
        dark, mask = blend_region(black, config, np.random.default_rng(seed))
        bright, _ = blend_region(black + 255, config, np.random.default_rng(seed))
        assert not dark[~mask].any()
        assert (bright[~mask] == 255).all()
        # the same texture and strength: s A and s A + (1 - s) 255
        strengths.append(1 - (bright[mask].astype(float) - dark[mask]).mean() / 255)
    assert low - 0.01 <= min(strengths) < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < max(strengths) <= high + 0.01


def test_textures_come_from_the_folder(tmp_path, image):
    folder = tmp_path / "textures" / "striped"
    folder.mkdir(parents=True)
    (folder / "@eaDir").mkdir()
    for file in ("a.jpg", ".hidden.jpg", "@eaDir/a.jpg"):
        Image.fromarray(np.full((10, 10, 3), 77, dtype=np.uint8)).save(folder / file)
    files = texture_files(tmp_path / "textures")
    assert files == (str(folder / "a.jpg"),)
    assert np.all(np.abs(texture((20, 30), np.random.default_rng(0), files).astype(int) - 77) <= 1)
    with pytest.raises(DataError, match="no texture image"):
        texture_files(tmp_path / "textures" / "none")


def made(config, normal, seed, store):
    return synthesize(config, normal, normal.slice(0, 0), seed, store).catalog


def test_saved_masks_are_exact(normal, tmp_path):
    originals = [read_image(path) for path in normal["image"].to_pylist()]
    for row in catalog_rows(made(PerRegionConfig(count=5), normal, 0, Store(tmp_path / "s"))):
        mask = read_mask(row.mask, row.mask_threshold)
        assert any(np.array_equal(read_image(row.image)[~mask], original[~mask]) for original in originals)


def test_an_image_smaller_than_any_texture_is_painted_on(tmp_path):
    """Procedural textures have 32 pixels a side at least."""
    Image.fromarray(make_surface("wood", (40, 40), np.random.default_rng(0))[:16, :16]).save(tmp_path / "small.png")
    row = CatalogRow(
        id="s", dataset="d", category="c", split="train", label=0, defect="good", image=str(tmp_path / "small.png")
    )
    config = PerRegionConfig(preset="draem", count=10, filters=None)
    samples = made(config, build_catalog([row]), 0, Store(tmp_path / "s"))
    assert {read_image(path).shape for path in samples["image"].to_pylist()} == {(16, 16, 3)}
    assert samples.num_rows == 10


def test_a_damaged_chunk_is_made_again_where_chunks_are_made(normal, tmp_path):
    asked = []

    def run(store, jobs, advance):
        asked.append([job.start for job in jobs])
        run_on_threads(store, jobs, advance)

    config = PerRegionConfig(count=25)
    for fresh in (30, 10, 0):
        found = synthesize(config, normal, normal.slice(0, 0), 3, Store(tmp_path / "s"), run=run)
        assert found.fresh == fresh
        file = Path(found.samples[15].row.image)
        whole = file.read_bytes()
        if fresh == 30:
            first = whole
            file.write_bytes(bytes(len(whole)))
    assert asked == [[0, 10, 20], [10]]
    assert whole == first


def test_a_texture_that_is_added_is_seen_at_once(normal, tmp_path):
    folder = tmp_path / "textures"
    folder.mkdir()
    config = PerRegionConfig(preset="memseg", count=10, textures=folder, texture_share=1, filters=None)
    made_of = {}
    for level in (0, 255):
        Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(folder / f"{level}.png")
        samples = catalog_rows(made(config, normal, 0, Store(tmp_path / "s")))
        brighter = [read_image(row.image).mean() for row in samples]
        made_of[level] = (samples[0].origin, max(brighter))
    assert made_of[0][0] != made_of[255][0]
    assert made_of[255][1] > made_of[0][1]
    fresh = catalog_rows(made(config, normal, 0, Store(tmp_path / "fresh")))
    for one, other in zip(samples, fresh, strict=True):
        np.testing.assert_array_equal(read_image(one.image), read_image(other.image))


def test_what_changes_while_it_is_painted_on_is_not_kept_under_the_old_name(normal, tmp_path):
    store = Store(tmp_path / "s")
    (job,) = plan_chunks(PerRegionConfig(count=10), normal, normal.slice(0, 0), 0)
    Image.fromarray(make_surface("wood", (64, 80), np.random.default_rng(9))).save(normal["image"][0].as_py())
    with pytest.raises(UserError, match="have changed since the synthesis from them was begun"):
        make_chunks(store, [job])
    assert store.peek(job.recipe.key) is None
