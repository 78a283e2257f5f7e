"""Normal images join a bank turned, too."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from vit_inputs import save_surfaces, save_weights, tokens

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.experiment.session import Session
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.turn import turned
from exdd_ray.methods.method import PlannedFit
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.method import METHOD
from exdd_ray.store.artifact import Store

SIDE = 64


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> FeaturesConfig:
    weights = save_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")
    return tokens(weights, resize=(SIDE, SIDE), layers_apart=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> pa.Table:
    return save_surfaces(tmp_path_factory.mktemp("wood"), 3, (SIDE, SIDE))


def config(features: FeaturesConfig, rotations: tuple[float, ...], rate: float = 1) -> PatchBankConfig:
    bank = {"negative": {"rate": rate}, "rotations": rotations}
    return PatchBankConfig.model_validate({"system": "patchcore", "features": features, "bank": bank})


def test_right_angles_are_exact_and_others_mirror_what_is_beyond():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for quarters in range(1, 4):
        np.testing.assert_array_equal(turned(image, 90 * quarters), np.rot90(image, quarters))
    ramp = np.repeat(np.arange(10, 70, 10, dtype=np.uint8)[None, :, None], 4, axis=0)
    upright = turned(np.repeat(ramp, 3, axis=2), 90)[..., 0]  # 4 rows of what was columns 1 to 4, turned
    np.testing.assert_array_equal(upright[:, 1:5], np.repeat([[50], [40], [30], [20]], 4, axis=1))
    np.testing.assert_array_equal(upright[:, 0], upright[:, 1])  # mirrored rows of a ramp that is the same in each


def test_diagonals_are_bilinear_and_mirrored_without_the_outermost_pixels():
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    angle, middle = np.deg2rad(45), np.array([9.5, 15.0])
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def mirrored(at: int, length: int) -> int:
        return min(at % (2 * length - 2), -at % (2 * length - 2))

    def at(place: np.ndarray) -> np.ndarray:
        corner = np.floor(place).astype(int)
        share = place - corner
        weights = [(y, x, abs(1 - y - share[0]) * abs(1 - x - share[1])) for y in (0, 1) for x in (0, 1)]
        return sum(w * image[mirrored(corner[0] + y, 20), mirrored(corner[1] + x, 31)] for y, x, w in weights)

    wanted = [[at(back @ ([y, x] - middle) + middle) for x in range(31)] for y in range(20)]
    assert np.abs(turned(image, 45) - np.array(wanted)).max() < 0.51


def test_a_turned_image_is_known_to_a_bank_with_rotations_alone(features, images, tmp_path):
    """Its patches are in the bank; and test images are as they are."""
    (row, *_) = catalog_rows(images)
    path = tmp_path / "turned.png"
    Image.fromarray(np.rot90(np.asarray(Image.open(row.image)))).save(path)
    where = {"dataset": "d", "category": "c", "split": "test"}
    test = build_catalog([CatalogRow(id="turned.png", **where, label=0, defect="good", image=str(path))])
    embedder = Embedder(Store(tmp_path / "store"), features)
    plain, rotated = (fit_patch_bank(config(features, given), images, embedder, 0) for given in ((), (90, 45)))
    assert plain.predict(test).scores[0] > 0.1
    assert rotated.predict(test).scores[0] < 1e-3
    assert [len(one.negative.vectors) for one in (plain, rotated)] == [3 * 16, 9 * 16]
    assert len(rotated.deeper[0].vectors) == 9 * 16


def test_a_share_is_of_all_patches_in_an_order_that_starts_anywhere(features, images, tmp_path):
    embedder = Embedder(Store(tmp_path), features)
    half = fit_patch_bank(config(features, (90,), 0.5), images, embedder, 0).negative
    whole = fit_patch_bank(config(features, (90,)), images, embedder, 0).negative
    np.testing.assert_array_equal(half.points, whole.points[: len(half.points)])
    assert len(half.points) == 48
    assert 0 < (half.points >= 48).sum() < 48, "turned patches are among them, and others"


def test_background_of_turned_images_is_left_out(features, images, tmp_path):
    with_front = features.model_copy(update={"foreground": True, "final_norm": True, "layers_apart": False})
    embedder = Embedder(Store(tmp_path), with_front)
    fitted = fit_patch_bank(config(with_front, (90,)), images, embedder, 0)
    both = [embedder.embed(images, with_front, degrees=degrees).foreground(np.arange(3)) for degrees in (0, 90)]
    assert len(fitted.negative.vectors) == sum(int(front.sum()) for front in both)


def test_the_plan_names_what_is_embedded(features, images, tmp_path):
    store, given = Store(tmp_path), config(features, (90, 45))
    fit = PlannedFit(images, images.slice(0, 2), (), 0)
    planned = [key for need in METHOD.needs(given, fit, Session(store)) if need.in_store for key in need.keys]
    assert len(set(planned)) == 3
    assert not any(store.peek(key) for key in planned)
    fit_patch_bank(given, fit.train, Embedder(store, features, images), 0)
    assert set(planned) == {key for key in store.made if key.startswith("embed-")}


@pytest.mark.parametrize("rotations", [(0,), (90, 360), (45, 45), (90, -270)])
def test_rotations_are_different_ones(features, rotations):
    with pytest.raises(ValueError, match="rotations are different ones"):
        config(features, rotations)


def test_rotations_are_of_a_single_bank():
    with pytest.raises(ValueError, match=r"bank.rotations is of a single bank: unset it, or use system=patchcore"):
        PatchBankConfig.model_validate({"bank": {"rotations": (90,)}})
