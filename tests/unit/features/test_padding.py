"""Images that patches do not divide, padded by option."""

import numpy as np
import pytest
import torch
from PIL import Image
from vit_inputs import save_surfaces, save_weights, tokens

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import catalog_rows
from exdd_ray.errors import ConfigError
from exdd_ray.features.backbone import load_backbone
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import covered_shares, prepare_image
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.padim.detector import fit_padim
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.supersimplenet.config import SuperSimpleNetConfig
from exdd_ray.store.artifact import Store

# 70 rows are 4 patches of 16 pixels and 6 pixels of a fifth; 90 columns are 5 patches and 10 pixels of a sixth
SIZE, GRID, COVERED = (70, 90), (4, 6), (64, 96)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return save_surfaces(tmp_path_factory.mktemp("wood"), 4)


def test_vectors_are_those_of_the_image_with_its_edge_repeated_but_for_patches_of_padding(weights, images, tmp_path):
    features = tokens(weights, resize=SIZE, pad=True, layers=("blocks.3",))
    embedding = embed(images, features, Store(tmp_path))
    assert (embedding.grid, embedding.covered) == (GRID, COVERED)
    image = prepare_image(np.asarray(Image.open(catalog_rows(images)[0].image)), features)
    repeated = np.pad(image, ((0, 0), (0, 80 - 70), (0, 96 - 90)), mode="edge")
    with torch.inference_mode():
        (wanted,) = load_backbone(tokens(weights, resize=(80, 96), layers=("blocks.3",)))(
            torch.from_numpy(repeated[None])
        )
    assert wanted.shape[-2:] == (5, 6)
    np.testing.assert_allclose(embedding.image(0).T.reshape(-1, *GRID), wanted[0, :, :4].numpy(), rtol=1e-4, atol=1e-5)


def test_a_size_that_patches_divide_is_not_padded(weights, images, tmp_path):
    plain, padded = (embed(images, tokens(weights, pad=pad), Store(tmp_path)) for pad in (False, True))
    np.testing.assert_array_equal(padded.image(0), plain.image(0))
    assert (padded.grid, padded.covered) == ((4, 6), (64, 96))
    assert plain.covered is None


def test_banks_and_scores_are_without_padding_and_maps_of_the_size_that_was_given(weights, images, tmp_path):
    features = tokens(weights, resize=SIZE, pad=True, tiles={"size": 64, "overlap": 16}, layers_apart=True)
    config = PatchBankConfig.model_validate(
        {"system": "patchcore", "features": features, "bank": {"negative": {"rate": 1}}}
    )
    fitted = fit_patch_bank(config, images.slice(0, 2), Embedder(Store(tmp_path), features), 0)
    found = fitted.predict(images.slice(2, 2))
    assert len(fitted.negative.vectors) == 2 * GRID[0] * GRID[1]
    assert found.patch_maps.shape == (2, GRID[0] * GRID[1])
    assert found.draw(found.patch_maps[0]).shape == SIZE
    assert found.draw(found.patch_maps[0], (140, 180)).shape == (140, 180)
    np.testing.assert_allclose(found.draw.many(found.patch_maps)[1], found.draw(found.patch_maps[1]), rtol=1e-5)


def test_maps_lie_where_the_patches_are():
    """A peak in the fourth patch of 4 rows of 16 pixels, of 70, and in the last of 6 columns, of 90."""
    patch_map = np.zeros(GRID, dtype=np.float32)
    patch_map[3, 5] = 1
    drawn = MapMaker(GRID, SIZE, "gaussian", 0.0, COVERED)(patch_map.reshape(-1))
    height, width = np.unravel_index(drawn.argmax(), SIZE)
    assert 56 <= height <= 69
    assert 88 <= width <= 89
    np.testing.assert_array_equal(drawn[63:], np.repeat(drawn[63:64], 7, axis=0))
    whole = MapMaker(GRID, COVERED, "gaussian", 0.0)(patch_map.reshape(-1))
    np.testing.assert_array_equal(drawn[:64], whole[:, :90])


def test_masks_cover_patches_as_maps_lie():
    mask = np.zeros(SIZE, dtype=bool)
    mask[40:70, 80:90] = True
    shares = covered_shares(mask, FeaturesConfig(resize=SIZE), GRID, COVERED)
    wanted = np.zeros(GRID)
    wanted[2:, 5] = [8 / 16 * 10 / 16, 10 / 16]
    np.testing.assert_allclose(shares, wanted, atol=1e-6)


def test_padim_is_of_the_same_patches(weights, images, tmp_path):
    features = tokens(weights, resize=SIZE, pad=True, channels=20)
    config = PadimConfig(features=features)
    fitted = fit_padim(config, images, Embedder(Store(tmp_path), features))
    found = fitted.predict(images)
    assert (found.draw.grid, found.draw.covered) == (GRID, COVERED)


def test_padding_is_of_patches(weights):
    with pytest.raises(ValueError, match="pad is of vision transformers"):
        FeaturesConfig(pad=True)
    convolutional = tokens(weights, backbone="timm/convnext_atto", layers=("stages.1",), pad=True)
    with pytest.raises(
        ConfigError, match="convnext_atto reads no patches that images are padded to: unset features.pad"
    ):
        load_backbone(convolutional)
    with pytest.raises(ValueError, match=r"features.pad is not for detector.kind=supersimplenet, but for patch_bank"):
        SuperSimpleNetConfig(features=tokens(weights, pad=True))
