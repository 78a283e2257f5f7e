from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.procedural.dataset import ProceduralSpec, write_procedural_dataset
from exdd_ray.data.procedural.defects import DEFECT_KINDS, add_defect
from exdd_ray.data.procedural.noise import (
    band_noise,
    fbm,
    perlin_noise,
    rank_unit,
    smooth_noise,
    spectral_noise,
    worley_cells,
)
from exdd_ray.data.procedural.shapes import blob
from exdd_ray.data.procedural.surfaces import MATERIALS, make_surface
from exdd_ray.errors import ConfigError, DataError

SMALL = ProceduralSpec(
    size=(48, 64), normal_train=2, normal_test=1, per_kind=1, materials=("ceramic", "leather"), kinds=("hole", "dent")
)


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize(
    "field",
    [
        spectral_noise((40, 61), generator(0), exponent=2),
        band_noise((40, 61), generator(0), period=6),
        perlin_noise((40, 61), generator(0), cell=7.3),
        fbm((40, 61), generator(0), cell=12.0),
        smooth_noise((40, 61), generator(0)),
    ],
)
def test_noise_is_standardised_at_the_size_asked(field):
    assert field.shape == (40, 61)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 1e-4
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_stretched_noise_changes_less_along_its_angle():
    field = spectral_noise((128, 128), generator(1), exponent=2, stretch=20, angle=0.0)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5 * np.abs(np.diff(field, axis=0)).mean()


def test_band_noise_has_the_period_asked():
    power = np.abs(np.fft.rfft2(band_noise((128, 128), generator(2), period=8, width=0.1))) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None, :])
    assert float((power * frequency).sum() / power.sum()) == pytest.approx(1 / 8, rel=0.1)


def test_worley_distances_are_those_to_the_two_nearest_seeds():
    cells = worley_cells((30, 47), generator(3), cell=9.0, jitter=0.0)
    rows, columns = (np.arange(30) + 0.5) / 9, (np.arange(47) + 0.5) / 9
    centres = np.stack(np.meshgrid(np.arange(-1, 6) + 0.5, np.arange(-1, 8) + 0.5, indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    distances = np.sort(np.linalg.norm(pixels[:, :, None] - centres, axis=-1), axis=-1)
    np.testing.assert_allclose(cells.first, distances[..., 0], atol=1e-5)
    np.testing.assert_allclose(cells.second, distances[..., 1], atol=1e-5)


def test_rank_unit_spans_zero_to_one():
    field = rank_unit(fbm((64, 64), generator(4), cell=16.0))
    assert field.min() == 0
    assert field.max() == 1


def test_a_rough_blob_stays_near_its_centre():
    shape = blob((96, 96), generator(5), centre=(48, 48), radius=10, roughness=0.3)
    rows, columns = np.nonzero(shape)
    assert np.hypot(rows - 48, columns - 48).max() < 35


@pytest.mark.parametrize("material", MATERIALS)
def test_surfaces_vary_with_the_seed_and_repeat_with_it(material):
    first, again, other = (make_surface(material, (64, 90), generator(seed)) for seed in (1, 1, 2))
    assert first.shape == (64, 90, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() > 5


@pytest.mark.parametrize("kind", DEFECT_KINDS)
@pytest.mark.parametrize("material", MATERIALS)
def test_masks_are_exact(material, kind):
    image = make_surface(material, (64, 90), generator(3))
    before = image.copy()
    defective, mask = add_defect(image, kind, generator(4))
    changed = (defective != image).any(axis=2)
    assert np.array_equal(image, before)
    assert mask.shape == (64, 90)
    assert mask.dtype == bool
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.5
    assert mask.mean() < 0.35


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_defects_repeat_with_the_seed(kind):
    image = make_surface("concrete", (64, 64), generator(5))
    first, again = (add_defect(image, kind, generator(6)) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_defects_are_visible_at_every_draw(kind):
    image = make_surface("ceramic", (96, 96), generator(7))
    for seed in range(20):
        defective, mask = add_defect(image, kind, generator(8, seed))
        assert mask.sum() >= 4
        assert np.abs(defective.astype(int) - image).max() >= 8


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="unknown material 'steel'"):
        make_surface("steel", (64, 64), generator(0))
    with pytest.raises(ConfigError, match="unknown defect kind 'rust'"):
        add_defect(make_surface("wood", (64, 64), generator(0)), "rust", generator(0))
    with pytest.raises(ConfigError, match="too small"):
        make_surface("wood", (16, 64), generator(0))


def test_dataset_has_the_mvtec_layout(tmp_path):
    count = write_procedural_dataset(tmp_path / "data", SMALL)
    names = sorted(contents(tmp_path / "data"))
    leather = [name for name in names if name.startswith("leather/")]
    assert leather == [
        "leather/ground_truth/dent/000_mask.png",
        "leather/ground_truth/hole/000_mask.png",
        "leather/test/dent/000.png",
        "leather/test/good/000.png",
        "leather/test/hole/000.png",
        "leather/train/good/000.png",
        "leather/train/good/001.png",
    ]
    assert count == 10
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_written_masks_are_binary_and_of_the_image_size(tmp_path):
    write_procedural_dataset(tmp_path / "data", SMALL)
    for path in (tmp_path / "data").rglob("*_mask.png"):
        mask = np.asarray(Image.open(path))
        assert mask.shape == (48, 64)
        assert set(np.unique(mask)) == {0, 255}


def test_datasets_are_deterministic_and_nested(tmp_path):
    write_procedural_dataset(tmp_path / "small", SMALL)
    larger = ProceduralSpec(
        size=(48, 64),
        normal_train=3,
        normal_test=2,
        per_kind=2,
        materials=("leather", "wood", "ceramic"),
        kinds=("dent", "crack", "hole"),
    )
    write_procedural_dataset(tmp_path / "large", larger)
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    assert len(large) > 2 * len(small)
    assert all(large[name] == pixels for name, pixels in small.items())


def test_seeds_give_other_images(tmp_path):
    write_procedural_dataset(tmp_path / "a", SMALL)
    write_procedural_dataset(tmp_path / "b", ProceduralSpec(**{**vars(SMALL), "seed": 1}))
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys()
    assert not any(first[name] == second[name] for name in first)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"materials": ("steel",)}, "unknown material"),
        ({"kinds": ("rust",)}, "unknown kind"),
        ({"materials": ("wood", "wood")}, "named twice"),
        ({"per_kind": -1}, "negative"),
        ({"materials": ()}, "at least one material"),
        ({"size": (8, 8)}, "too small"),
    ],
)
def test_impossible_specs_leave_nothing_behind(tmp_path, change, reason):
    with pytest.raises(ConfigError, match=reason):
        write_procedural_dataset(tmp_path / "data", ProceduralSpec(**{**vars(SMALL), **change}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_procedural_dataset(tmp_path, SMALL)
    assert (tmp_path / "keep.txt").read_text() == "mine"
