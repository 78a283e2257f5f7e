"""The bundled detectors on tokens of transformers: AnomalyDINO and SuperADD."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from vit_inputs import save_surfaces, save_weights

from exdd_ray.config.bundled import find_config
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.experiment.space import load_run
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.store.artifact import Store

DINOV2 = "timm/vit_small_patch14_dinov2.lvd142m"
SMALL_DINOV3 = "features.backbone=timm/vit_small_patch16_dinov3.lvd1689m"
SMALL_LAYERS = "features.layers=[blocks.3,blocks.5,blocks.8,blocks.10]"
ANGLES = 8


def detector(name: str, *overrides: str) -> PatchBankConfig:
    (trial,) = load_run(find_config(name), ["dataset.root=somewhere", *overrides]).trials
    assert isinstance(trial.config.detector, PatchBankConfig)
    return trial.config.detector


def fitted(config: PatchBankConfig, train: pa.Table, universe: pa.Table, store: Store) -> FittedPatchBank:
    return fit_patch_bank(config, train, Embedder(store, config.features, universe), 0)


def test_anomalydino_keeps_all_tokens_of_all_rotations(tmp_path):
    weights = save_weights(tmp_path / "w.safetensors")
    small = ("features.backbone=timm/test_vit", "features.layers=[blocks.5]", "features.resize=[64,96]")
    config = detector("anomalydino_folder", *small, f"features.weights={weights}")
    images = save_surfaces(tmp_path, 3)
    found = fitted(config, images.slice(0, 2), images, Store(tmp_path / "store"))
    assert len(found.negative.vectors) == 2 * ANGLES * 24
    assert len(np.unique(found.negative.points)) == 2 * ANGLES * 24
    np.testing.assert_allclose(np.linalg.norm(found.negative.vectors, axis=1), 1, rtol=1e-5)
    distances = found.predict(images.slice(2, 1)).patch_maps[0]
    assert found.predict(images.slice(2, 1)).scores[0] == pytest.approx(distances.max()), "1 % of 24 is one"
    (samples,) = found.embedder.samples(images.slice(2, 1))
    cosine = samples.embedding.image(2) @ found.negative.vectors.T
    np.testing.assert_allclose(distances, 2 * (1 - cosine.max(axis=1)), atol=1e-5)


def test_superadd_is_a_bank_a_layer_of_tiles_as_published():
    config = detector("superadd_folder")
    features, bank = config.features, config.bank.negative
    assert (features.layers_apart, features.final_norm, features.unit_length) == (True, False, False)
    assert (features.tiles.size, features.tiles.overlap, len(features.layers)) == (640, 128, 4)
    assert (bank.minimum, config.scoring.top, config.scoring.neighbours) == (100_000, 0.001, 0)
    assert all(length % 16 == 0 for length in (*features.input_size, features.tiles.size, features.tiles.overlap))


@pytest.mark.parametrize("overrides", [(), (SMALL_DINOV3, SMALL_LAYERS)])
def test_superadds_layers_are_those_of_its_network(overrides):
    timm = pytest.importorskip("timm")
    features = detector("superadd_folder", *overrides).features
    with torch.device("meta"):
        outline = timm.create_model(features.backbone.removeprefix("timm/"), pretrained=False, features_only=True)
    blocks = [one["module"] for one in outline.feature_info.info]
    depth = {12: ("3", "5", "8", "10"), 32: ("7", "15", "23", "31")}[len(blocks)]
    assert features.layers == tuple(f"blocks.{number}" for number in depth)
    assert set(features.layers) <= set(blocks)


def test_superadd_with_rotary_embeddings(tmp_path):
    """As DINOv3 has them: each tile is a network's whole image."""
    name = "vit_tiny_patch16_dinov3_qkvb"
    weights = save_weights(tmp_path / "w.safetensors", name)
    small = (f"features.backbone=timm/{name}", SMALL_LAYERS, "features.resize=[96,128]", f"features.weights={weights}")
    config = detector("superadd_folder", *small, "features.tiles.size=64", "features.tiles.overlap=16")
    images = save_surfaces(tmp_path, 3)
    found = fitted(config, images.slice(0, 2), images, Store(tmp_path / "store"))
    assert [len(bank.vectors) for bank in (found.negative, *found.deeper)] == [2 * 48] * 4
    predictions = found.predict(images)
    of = {row.id: score for row, score in zip(predictions.rows, predictions.scores, strict=True)}
    assert of["0.png"] < 1e-3
    assert of["1.png"] < 1e-3
    assert of["2.png"] > 0.1


@pytest.fixture(scope="module")
def tiles(shared_dir) -> tuple[pa.Table, pa.Table]:
    """Four normal magnetic tiles to train on, and four normal and four defective ones to test."""
    pytest.importorskip("timm")
    catalog = load_dataset("magnetic_tile", shared_dir / "data" / "magnetic-tile")
    normal, defects = select_rows(catalog, label=0), select_rows(catalog, label=1)
    return normal.slice(0, 4), pa.concat_tables([normal.slice(4, 4), defects.take(np.arange(0, 320, 80))])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "overrides", "vectors"),
    [
        ("anomalydino_folder", ("features.resize=[224,224]",), 4 * ANGLES * 16 * 16),
        (
            "superadd_folder",
            (
                SMALL_LAYERS,
                "features.resize=[336,336]",
                "features.tiles.size=224",
                "features.tiles.overlap=56",
            ),
            4 * 4 * 24 * 24,
        ),
    ],
)
def test_real_tiles_with_real_weights(name, overrides, vectors, tiles, shared_dir, tmp_path):
    train, test = tiles
    weights = shared_dir / "weights" / "dinov2_vits14.safetensors"
    config = detector(name, f"features.backbone={DINOV2}", f"features.weights={weights}", *overrides)
    found = fitted(config, train, pa.concat_tables([train, test]), Store(tmp_path))
    assert found.normal_vectors == vectors
    predictions = found.predict(test)
    normal, defective = (
        np.array([score for row, score in zip(predictions.rows, predictions.scores, strict=True) if row.label == label])
        for label in (0, 1)
    )
    assert defective.mean() > normal.mean()
    assert np.isfinite(predictions.patch_maps).all()
