"""Which patches show defects."""

import os

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.errors import ImageError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.positives import masked_patches
from exdd_ray.store.artifact import Store


def draw(path, rows, columns):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(path)


@pytest.fixture
def defect(tmp_path):
    image, mask = tmp_path / "a.png", tmp_path / "mask.png"
    Image.fromarray(np.full((64, 64, 3), 90, dtype=np.uint8)).save(image)
    draw(mask, slice(0, 8), slice(0, 8))
    row = CatalogRow(
        id="a", dataset="d", category="c", split="train", label=1, defect="hole", image=str(image), mask=str(mask)
    )
    return build_catalog([row]), mask


def covered(catalog, embedder):
    (samples,) = embedder.samples(catalog)
    return masked_patches(samples, embedder)[0].reshape(samples.embedding.grid)


def test_a_mask_that_is_replaced_in_place_is_read_again(defect, tmp_path):
    catalog, mask = defect
    embedder = Embedder(Store(tmp_path / "store"), FeaturesConfig(resize=(64, 64)))
    first = covered(catalog, embedder)
    assert first[0, 0]
    assert not first[-1, -1]
    np.testing.assert_array_equal(covered(catalog, embedder), first)
    draw(mask, slice(56, 64), slice(56, 64))
    os.utime(mask, ns=(0, 0))
    second = covered(catalog, embedder)
    assert second[-1, -1]
    assert not second[0, 0]


def test_a_mask_that_is_gone_is_named(defect, tmp_path):
    catalog, mask = defect
    embedder = Embedder(Store(tmp_path / "store"), FeaturesConfig(resize=(64, 64)))
    mask.unlink()
    with pytest.raises(ImageError, match=r"mask\.png"):
        covered(catalog, embedder)
